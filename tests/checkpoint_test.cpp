// SPDX-License-Identifier: Apache-2.0
#include "train/checkpoint.hpp"

#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>

#include "core/random.hpp"
#include "tests/support/failing_calls.hpp"
#include "tests/support/op_spec.hpp"
#include "tests/support/process.hpp"
#include "tests/support/saved_model.hpp"
#include "tests/support/temporary_folder.hpp"

namespace mahia::train {
namespace {

namespace fs = std::filesystem;
using tests::check_throws;
using tests::FailingCalls;
using tests::SavedModel;
using tests::TemporaryFolder;

std::string save(const TemporaryFolder& folder, int64_t step, int64_t keep = 3) {
  SavedModel saved;
  saved.set(step);
  return save_checkpoint(folder.path(), saved.model, saved.optimizer, {.step = step}, keep);
}

// Loads what `latest` means; its step, or -1 when the values are a mixture.
int64_t load_latest(const std::string& folder) {
  SavedModel loaded;
  const RunState state = load_checkpoint(find_checkpoint(folder), loaded.model, loaded.optimizer);
  return loaded.number() == state.step ? state.step : -1;
}

std::set<std::string> names_in(const std::string& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename().string());
  return names;
}

// Saves without end are killed at random moments, once there is a checkpoint to lose.
void survive_kills(int kills) {
  const TemporaryFolder folder;
  save(folder, 1);
  std::mt19937 random(1);
  std::set<int64_t> found;
  for (int i = 0; i < kills; ++i) {
    const auto after = std::chrono::microseconds(60'000 + random() % 200'000);
    BOOST_TEST(tests::run_and_kill({"save", folder.path()}, after) == -SIGKILL);
    found.insert(load_latest(folder.path()));
  }
  BOOST_TEST(*found.begin() >= 1);
  BOOST_TEST(found.size() > 1, "no kill came after a new checkpoint");
}

// The control: the same kills find files that cannot be read when they are written in place.
void lose_files_written_in_place(int kills) {
  const TemporaryFolder folder;
  std::mt19937 random(2);
  int unreadable = 0;
  for (int i = 0; i < kills; ++i) {
    const auto after = std::chrono::microseconds(60'000 + random() % 200'000);
    tests::run_and_kill({"overwrite", folder / "model.safetensors"}, after);
    try {
      load_safetensors(folder / "model.safetensors");
    } catch (const IoError&) {
      ++unreadable;
    }
  }
  BOOST_TEST_MESSAGE("unreadable after " << kills << " kills: " << unreadable);
  BOOST_TEST(unreadable > 0);
}

BOOST_AUTO_TEST_SUITE(checkpoint)

BOOST_AUTO_TEST_CASE(everything_comes_back) {
  const TemporaryFolder folder;
  manual_seed(9);
  set_random_step(1234);
  SavedModel saved;
  saved.set(5);
  const RunState state{.step = 77, .next_batch = 154, .schedules = "lr constant", .notes = {{"config", "a = 1\n"}}};
  const std::string path = save_checkpoint(folder / "deep/er", saved.model, saved.optimizer, state);
  BOOST_TEST(path == folder / "deep/er/step-00000077");
  set_random_step(0);

  SavedModel loaded;
  const RunState back = load_checkpoint(path, loaded.model, loaded.optimizer);
  BOOST_TEST(back.step == 77);
  BOOST_TEST(back.next_batch == 154);
  BOOST_TEST(back.schedules == "lr constant");
  BOOST_TEST((back.notes == state.notes));
  BOOST_TEST((read_run_state(path).notes == state.notes));
  BOOST_TEST(loaded.number() == 5);
  BOOST_TEST(loaded.optimizer.steps_done() == 77);
  BOOST_TEST(random_step() == 1234u);
  manual_seed(0);
}

BOOST_AUTO_TEST_CASE(the_newest_are_kept_and_latest_points_to_the_last) {
  const TemporaryFolder folder;
  BOOST_TEST(find_checkpoint(folder.path()).empty());
  for (int64_t step = 10; step <= 50; step += 10) save(folder, step, 2);
  BOOST_TEST((names_in(folder.path()) == std::set<std::string>{"latest", "step-00000040", "step-00000050"}));
  BOOST_TEST(fs::read_symlink(folder / "latest") == "step-00000050");
  BOOST_TEST(find_checkpoint(folder.path()) == folder / "step-00000050");
  BOOST_TEST(find_checkpoint(folder / "step-00000040") == folder / "step-00000040");
  fs::remove(folder / "latest");
  BOOST_TEST(find_checkpoint(folder.path()) == folder / "step-00000050");
}

BOOST_AUTO_TEST_CASE(a_second_checkpoint_of_a_step_does_not_touch_the_first) {
  const TemporaryFolder folder;
  BOOST_TEST(save(folder, 3) == folder / "step-00000003");
  BOOST_TEST(save(folder, 3) == folder / "step-00000003-2");
  BOOST_TEST(load_latest(folder.path()) == 3);
  BOOST_TEST(names_in(folder.path()).size() == 3u);
}

BOOST_AUTO_TEST_CASE(what_a_killed_process_left_is_no_checkpoint_and_is_removed) {
  const TemporaryFolder folder;
  save(folder, 1);
  fs::create_directory(folder / "step-00000002");
  fs::copy(folder / "step-00000001/model.safetensors", folder / "step-00000002/model.safetensors");
  fs::create_symlink("step-00000002", folder / "latest.tmp.1");
  BOOST_TEST(find_checkpoint(folder / "step-00000002").empty());
  BOOST_TEST(load_latest(folder.path()) == 1);
  save(folder, 3);
  BOOST_TEST((names_in(folder.path()) == std::set<std::string>{"latest", "step-00000001", "step-00000003"}));
}

BOOST_AUTO_TEST_CASE(damage_is_named_and_nothing_is_loaded) {
  const TemporaryFolder folder;
  const auto refuses = [&](const std::string& text) {
    SavedModel loaded;
    loaded.set(0);
    check_throws<IoError>([&] { load_checkpoint(folder / "step-00000002", loaded.model, loaded.optimizer); }, text);
    BOOST_TEST(loaded.number() == 0);
  };
  save(folder, 1);
  for (const std::string name : {"model.safetensors", "optimizer.safetensors", "state.safetensors"}) {
    const std::string path = save(folder, 2) + "/" + name;
    fs::copy(folder / "step-00000001/" + name, path, fs::copy_options::overwrite_existing);
    refuses(name + ": is not the file that manifest.json lists");
    std::ofstream(path, std::ios::app) << "more";
    refuses(path);
    fs::remove(path);
    refuses(path + ": cannot open it");
    fs::remove_all(folder / "step-00000002");
  }
  save(folder, 2);
  for (const std::string& text : {std::string(), std::string("{"), std::string("[]"), std::string(R"({"format":1})"),
                                  std::string(R"({"format":2,"files":{}})")}) {
    std::ofstream(folder / "step-00000002/manifest.json", std::ios::trunc) << text;
    refuses("manifest.json: damaged, or of another version");
  }
}

BOOST_AUTO_TEST_CASE(a_checkpoint_of_something_else_changes_nothing) {
  const TemporaryFolder folder;
  const std::string path = save(folder, 4);
  struct Other : nn::Module {
    Tensor weight = parameter("weight", zeros({64, 256}));
    Tensor bias = parameter("bias", zeros({256}));
  } other;
  Sgd sgd(other);
  check_throws<ValueError>([&] { load_checkpoint(path, other, sgd); }, "optimizer.safetensors: optimizer: nothing was");
  BOOST_TEST(other.weight.to_vector<float>()[0] == 0.f);
  manual_seed(3);
  SavedModel loaded;
  check_throws<ValueError>([&] { load_checkpoint(path, loaded.model, loaded.optimizer); },
                           "was made with seed 0, now it is 3; call manual_seed() before the model is built");
  manual_seed(0);
}

BOOST_AUTO_TEST_CASE(a_fault_at_any_call_leaves_a_whole_checkpoint) {
  SavedModel young;
  young.set(2);
  const auto save_young = [&](const std::string& path) {
    save_checkpoint(path, young.model, young.optimizer, {.step = 2});
  };
  const TemporaryFolder old, whole;
  save(old, 1);
  const int calls = tests::count_calls([&] { save_young(whole.path()); });
  BOOST_TEST(calls > 40);
  for (const int error : {ENOSPC, EIO}) {
    for (int bad = 0; bad < calls; ++bad) {
      const TemporaryFolder folder;
      fs::copy(old.path(), folder.path(), fs::copy_options::recursive | fs::copy_options::copy_symlinks);
      bool saved = true;
      try {
        const FailingCalls failing([&](int n) { return n == bad ? error : 0; });
        save_young(folder.path());
      } catch (const IoError&) {
        saved = false;
      }
      const int64_t step = load_latest(folder.path());
      BOOST_TEST((step == 2 || (step == 1 && !saved)), "call " << bad << " of " << calls << ": step " << step);
      const FailingCalls working([](int) { return 0; });
      BOOST_TEST(save(folder, 3) == folder / "step-00000003");
    }
  }
}

BOOST_AUTO_TEST_CASE(signals_and_short_writes_change_nothing) {
  const TemporaryFolder folder;
  const FailingCalls failing([](int n) { return n % 2 == 0 ? EINTR : 0; }, 5000);
  save(folder, 1);
  BOOST_TEST(load_latest(folder.path()) == 1);
}

BOOST_AUTO_TEST_CASE(no_kill_while_saving_loses_a_checkpoint) { survive_kills(10); }
BOOST_AUTO_TEST_CASE(kills_do_hurt_files_written_in_place) { lose_files_written_in_place(10); }

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(slow_checkpoint)

BOOST_AUTO_TEST_CASE(no_kill_of_two_hundred_loses_a_checkpoint) { survive_kills(200); }
BOOST_AUTO_TEST_CASE(kills_do_hurt_files_written_in_place) { lose_files_written_in_place(40); }

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
