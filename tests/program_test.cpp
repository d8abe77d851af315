// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/support/process.hpp"
#include "tests/support/temporary_folder.hpp"
#include "train/checkpoint.hpp"
#include "train/file.hpp"
#include "train/metrics.hpp"

namespace mahia::tests {
namespace {

using Words = std::vector<std::string>;

// A folder with a text, a configuration of a model that trains in a moment, and one trained run.
struct Workshop {
  Workshop() {
    std::string text;
    for (int i = 0; i < 400; ++i) text += "verse " + std::to_string(i % 37) + " says that the sea was calm.\n";
    train::write_file(path("text"), text);
    train::write_file(
        path("small.toml"),
        "[model]\nwidth = 16\nlayers = 1\nfilter_embedding = 5\nfilter_hidden = 8\nexperts = 2\nhidden = 16\n"
        "[data]\ntext = \"" +
            path("text") +
            "\"\n"
            "[train]\nsteps = 6\nbatch_size = 4\nsequence_length = 32\nlog_every = 2\nevaluate_batches = 2\n"
            "[train.lr]\npeak = 0.01\n");
  }
  std::string path(const std::string& name) const { return folder.path() + "/" + name; }
  Words training(const std::string& out, const Words& more = {}) const {
    Words words = {"train", "--config", path("small.toml"), "--out", path(out)};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  void finds(const Words& arguments, const Words& variables, int code, const std::string& out, const std::string& err) {
    Program program(folder.path(), arguments, variables);
    BOOST_TEST_CONTEXT("expects " << out << err) {
      BOOST_TEST(program.wait() == code);
      BOOST_TEST(program.out().find(out) != std::string::npos, program.out() << " lacks " << out);
      BOOST_TEST(program.err().find(err) != std::string::npos, program.err() << " lacks " << err);
    }
  }
  std::string output(const Words& arguments) {
    Program program(folder.path(), arguments);
    BOOST_TEST_REQUIRE(program.wait() == 0, program.err());
    return program.out();
  }
  TemporaryFolder folder;
};

BOOST_AUTO_TEST_SUITE(program)

BOOST_FIXTURE_TEST_CASE(help_and_version_answer_and_exit_with_0, Workshop) {
  finds({"--version"}, {}, 0, "mahia 0.", "");
  finds({"--help"}, {}, 0, "mahia train --config train/configs/kjv_demo.toml", "");
  finds({"--help"}, {}, 0, "MAHIA_NUM_THREADS", "");
  for (const char* command : {"train", "eval", "generate", "plot", "audit", "inspect", "info"}) {
    finds({command, "--help"}, {}, 0, "Usage: mahia " + std::string(command), "");
  }
  finds({"info", "--json"}, {}, 0, "\"threads\":", "");
}

BOOST_FIXTURE_TEST_CASE(wrong_usage_exits_with_2_and_says_what_is_wrong, Workshop) {
  finds({}, {}, 2, "", "subcommand is required");
  finds({"trian"}, {}, 2, "", "there is no command `trian`; did you mean `train`?");
  finds({"train"}, {}, 2, "", "--config");
  finds({"generate", "--checkpoint", "x", "--prompt", "a", "--tokens", "many"}, {}, 2, "", "many");
  const Words writing = {"generate", "--checkpoint", "x", "--prompt"};
  const auto with = [&](Words words) { return words.insert(words.begin(), writing.begin(), writing.end()), words; };
  finds(with({""}), {}, 2, "", "--prompt is empty");
  finds(with({"a", "--temperature", "nan"}), {}, 2, "", "temperature is nan, must be a number of at least 0");
  finds(with({"a", "--top-k", "-1"}), {}, 2, "", "top_k is -1");
  finds(with({"a", "--top-p", "0"}), {}, 2, "", "top_p is 0, must be in (0, 1]");
  finds(with({"a", "--repetition-penalty", "0"}), {}, 2, "", "repetition_penalty is 0");
  finds(training("run", {"--set", "train.stpes=3"}), {}, 2, "",
        "unknown key `train.stpes`; did you mean `train.steps`?");
  finds(training("run", {"--set", "train.steps=few"}), {}, 2, "", "--set train.steps=few");
  finds(training("run", {"--set", "train.steps=0"}), {}, 2, "", "train.steps must be a whole number from 1");
  finds(training("run", {"--device", "tpu"}), {}, 2, "", "device: unknown `tpu`; known: cpu, cuda, cuda:N");
  finds(with({"a", "--device", "cuda:x"}), {}, 2, "", "device: bad index in `cuda:x`");
  finds({"eval", "--checkpoint", "x", "--device", "cpu:1"}, {}, 2, "", "device: bad index in `cpu:1`");
  finds({"info"}, {"MAHIA_NUM_THREADS=none"}, 2, "", "MAHIA_NUM_THREADS is `none`; allowed: a whole number from 1");
  finds({"info"}, {"MAHIA_CPU_ISA=sse"}, 2, "", "MAHIA_CPU_ISA is `sse`; allowed: avx2 or avx512");
  BOOST_TEST(!std::filesystem::exists(path("run")));
}

BOOST_FIXTURE_TEST_CASE(what_fails_while_running_exits_with_1_and_names_the_file, Workshop) {
  finds({"train", "--config", "/no/such.toml", "--out", path("run")}, {}, 1, "", "/no/such.toml: cannot open");
  finds(training("run", {"--set", "data.text=/no/text"}), {}, 1, "", "/no/text");
  finds({"eval", "--checkpoint", path("none")}, {}, 1, "", "none: no checkpoint here");
  finds({"eval", "--checkpoint", "model.pt"}, {}, 1, "", "safetensors.torch.save_file(torch.load(\"model.pt\"");
  for (const Words& words : {training("run", {}), Words{"eval", "--checkpoint", "x"},
                             Words{"generate", "--checkpoint", "x", "--prompt", "a"}, Words{"reproduce", "majority"}}) {
    Words there = words;
    there.insert(there.end(), {"--device", "cuda:99"});
    finds(there, {}, 1, "", "cuda");
  }
  finds({"plot", path("none")}, {}, 1, "", "none/metrics.jsonl");
  finds({"inspect", path("text")}, {}, 1, "", path("text"));
}

BOOST_FIXTURE_TEST_CASE(a_run_keeps_its_settings, Workshop) {
  finds(training("kept", {}), {}, 0, "", "");
  finds(training("kept", {"--resume", "--set", "train.log_every=3"}), {}, 0, "", "");
  finds(training("kept", {"--resume", "--set", "train.batch_size=1"}), {}, 2, "",
        "the run began with other settings, and a run keeps them:\n  train.batch_size was: ");
}

BOOST_FIXTURE_TEST_CASE(weights_of_another_checkpoint_are_refused, Workshop) {
  finds(training("one", {}), {}, 0, "", "");
  finds(training("two", {"--seed", "9"}), {}, 0, "", "");
  const std::string weights = "/checkpoints/latest/model.safetensors";
  std::filesystem::copy_file(path("one") + weights, path("two") + weights,
                             std::filesystem::copy_options::overwrite_existing);
  finds({"eval", "--checkpoint", path("two")}, {}, 1, "", "is not the file that manifest.json lists");
  finds({"generate", "--checkpoint", path("two"), "--prompt", "a"}, {}, 1, "",
        "is not the file that manifest.json lists");
}

BOOST_FIXTURE_TEST_CASE(an_unknown_variable_is_a_warning_with_the_nearest_name, Workshop) {
  finds({"info"}, {"MAHIA_SEEED=1"}, 0, "mahia", "unknown variable MAHIA_SEEED; did you mean MAHIA_SEED?");
}

BOOST_FIXTURE_TEST_CASE(the_command_line_wins_over_the_environment_over_the_file, Workshop) {
  const Words print = training("run", {"--print-config", "--set", "train.lr.peak=0.02"});
  finds(print, {}, 0, "seed = 0\n", "");
  finds(print, {}, 0, "peak = 0.02\n", "");
  finds(print, {"MAHIA_SEED=5"}, 0, "seed = 5\n", "");
  Words with_set = print, with_option = print;
  with_set.insert(with_set.end(), {"--set", "train.seed=6"});
  finds(with_set, {"MAHIA_SEED=5"}, 0, "seed = 6\n", "");
  with_set.insert(with_set.end(), {"--seed", "7"});
  finds(with_set, {"MAHIA_SEED=5"}, 0, "seed = 7\n", "");
}

BOOST_FIXTURE_TEST_CASE(a_run_can_be_trained_measured_continued_and_drawn, Workshop) {
  const auto trained = nlohmann::json::parse(output(training("run", {"--json"})));
  BOOST_TEST(trained["step"].get<int>() == 6);
  BOOST_TEST(trained["stopped"].get<std::string>() == "finished");
  BOOST_TEST(trained["bits_per_byte"].get<double>() < trained["start_bits_per_byte"].get<double>());
  finds(training("run"), {}, 1, "", "a run is here already");
  finds(training("run", {"--resume"}), {}, 0, "finished at step 6", "");

  const auto measured =
      nlohmann::json::parse(output({"eval", "--checkpoint", path("run"), "--batches", "2", "--json"}));
  BOOST_TEST(std::abs(measured["bits_per_byte"].get<double>() - trained["bits_per_byte"].get<double>()) < 1e-5);

  const Words writing = {"generate", "--checkpoint", path("run"), "--prompt", "the sea", "--tokens", "40", "--seed"};
  const auto written = [&](const std::string& seed) {
    Words words = writing;
    words.push_back(seed);
    return output(words);
  };
  BOOST_TEST(written("1") == written("1"));
  BOOST_TEST(written("1") != written("2"));
  BOOST_TEST(written("1").substr(0, 7) == "the sea");
  BOOST_TEST(written("1").size() == 7u + 40u + 1u);
  Words until = writing;
  until.insert(until.end(), {"1", "--stop", written("1").substr(20, 1)});
  const std::string text = written("1"), stop = text.substr(20, 1);
  BOOST_TEST(output(until) == text.substr(0, text.find(stop, 7)) + "\n");

  std::string pictures;
  for (const char* name : {"loss", "expert_load", "max_violation", "coefficients"})
    pictures += path("run") + "/" + name + ".svg\n";
  BOOST_TEST(output({"plot", path("run")}) == pictures);
  BOOST_TEST(train::read_file(path("run") + "/loss.svg").find("held out, last ") != std::string::npos);
  BOOST_TEST(train::read_file(path("run") + "/expert_load.svg").find("layer 0") != std::string::npos);

  const std::string listed = output({"inspect", train::find_checkpoint(path("run")) + "/model.safetensors"});
  BOOST_TEST(listed.find("[256, 16]") != std::string::npos);
  BOOST_TEST(listed.find(" tensors, ") != std::string::npos);
}

// The model's own z-loss is told apart from the task, which cannot reach a router of one renormalised choice.
BOOST_FIXTURE_TEST_CASE(an_audit_says_what_reaches_the_routers, Workshop) {
  finds(training("sound", {"--set", "model.experts=4"}), {}, 0, "", "");
  finds(training("blind", {"--set", "model.top_k=1", "--set", "model.routing.renormalize=yes", "--set",
                           "model.z_loss=0.01", "--set", "train.aux.switch.schedule=pi"}),
        {}, 0, "", "");
  const auto audited = [&](const std::string& run) {
    const auto json = nlohmann::json::parse(output({"audit", "--checkpoint", path(run), "--batches", "2", "--json"}));
    BOOST_TEST(json["routers"].size() == 1u);
    BOOST_TEST(json["routers"][0]["tokens"] == 2 * 4 * 32);
    return json["routers"][0]["losses"];
  };
  const auto sound = audited("sound"), blind = audited("blind");
  BOOST_REQUIRE((sound.size() == 2u && blind.size() == 3u));
  BOOST_TEST((sound[0]["reaches"] == true && sound[1]["reaches"] == true && sound[1]["over_task"] > 0));
  BOOST_TEST((blind[0]["reaches"] == false && blind[1]["reaches"] == true && blind[2]["reaches"] == true));
  BOOST_TEST((blind[2]["name"] == "z_loss" && std::abs(blind[2]["coefficient"].get<double>() - 0.01) < 1e-8));
  BOOST_TEST(blind[1]["coefficient"] != 0.01f);  // where the closed loop has brought it
  finds({"audit", "--checkpoint", path("blind")}, {}, 0, "layers.0.moe.router: top 1 of 2 experts, 512 tokens", "");
  finds({"audit", "--checkpoint", path("none")}, {}, 1, "", "none: no checkpoint here");
  finds({"audit", "--checkpoint", path("blind"), "--batches", "0"}, {}, 2, "", "--batches");
}

BOOST_FIXTURE_TEST_CASE(a_genome_is_learnt_and_continued_base_by_base, Workshop) {
  std::string genome = ">small\n";
  for (int i = 0; i < 100; ++i) genome += "ACGTTGCAACGTNCCATGA\n";
  train::write_file(path("genome"), genome);
  Words words = training("dna");
  for (const std::string& setting :
       Words{"data.text=" + path("genome"), "data.format=fasta", "data.both_strands=true", "model.vocab=8",
             "train.sequence_warmup.stage_steps=[2,2]", "train.sequence_warmup.lengths=[8,16]",
             "train.sequence_warmup.batch_sizes=[4,2]"}) {
    words.insert(words.end(), {"--set", setting});
  }
  finds(words, {}, 0, "bits per base", "");
  finds({"eval", "--checkpoint", path("dna")}, {}, 0, "held-out bases", "");
  const std::string written = output({"generate", "--checkpoint", path("dna"), "--prompt", "acgt", "--tokens", "50"});
  BOOST_TEST(written.substr(0, 4) == "acgt");
  BOOST_TEST(written.substr(4, 50).find_first_not_of("ACGTN") == std::string::npos);
  BOOST_TEST(written.size() == 55u);
  finds({"generate", "--checkpoint", path("dna"), "--prompt", "ACX"}, {}, 2, "", "`X` at place 2 is no base");
}

BOOST_FIXTURE_TEST_CASE(sigterm_finishes_the_step_saves_and_exits_with_143, Workshop) {
  Program training_run(folder.path(), training("long", {"--set", "train.steps=1000000"}));
  const std::string metrics = path("long") + "/metrics.jsonl";
  const auto has_trained = [&] {
    return std::filesystem::exists(metrics) && train::read_file(metrics).find("\"lr\"") != std::string::npos;
  };
  for (int i = 0; i < 3000 && !has_trained(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  training_run.signal(SIGTERM);
  BOOST_TEST(training_run.wait() == 143);
  BOOST_TEST(training_run.out().find("interrupted at step ") != std::string::npos);
  BOOST_TEST(train::read_run_state(train::find_checkpoint(path("long"))).step >= 1);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
