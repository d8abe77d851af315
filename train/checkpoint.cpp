// SPDX-License-Identifier: Apache-2.0
#include "train/checkpoint.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/random.hpp"
#include "train/file.hpp"

namespace mahia::train {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int format = 1;
constexpr const char *manifest_name = "/manifest.json", *model_name = "/model.safetensors",
                     *optimizer_name = "/optimizer.safetensors", *state_name = "/state.safetensors";
constexpr std::string_view note_prefix = "note.", schedule_prefix = "schedule.";

bool is_complete(const fs::path& checkpoint) { return fs::is_regular_file(checkpoint.string() + manifest_name); }

bool is_checkpoint_name(const fs::path& path) { return path.filename().string().starts_with("step-"); }

// The manifest goes first, so that half a removal leaves no checkpoint that looks whole.
void discard(const fs::path& checkpoint) {
  std::error_code error;
  fs::remove(checkpoint.string() + manifest_name, error);
  if (!error) fs::remove_all(checkpoint, error);
  check<IoError>(!error, checkpoint.string(), ": cannot remove it: ", error.message());
}

// What a killed process left: folders without a manifest, links that were never renamed.
void remove_leftovers(const std::string& folder) {
  std::vector<fs::path> leftovers;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const bool is_link = entry.path().filename().string().starts_with("latest.tmp.");
    const bool is_half = is_checkpoint_name(entry.path()) && !is_complete(entry.path());
    if (is_link || is_half) leftovers.push_back(entry.path());
  }
  for (const fs::path& path : leftovers) discard(path);
}

std::vector<fs::path> complete_checkpoints_newest_first(const std::string& folder) {
  std::vector<std::pair<fs::file_time_type, fs::path>> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (!entry.is_symlink() && is_checkpoint_name(entry.path()) && is_complete(entry.path())) {
      found.emplace_back(fs::last_write_time(entry.path().string() + manifest_name), entry.path());
    }
  }
  std::ranges::sort(found, std::greater<>());
  std::vector<fs::path> paths;
  for (auto& [time, path] : found) paths.push_back(std::move(path));
  return paths;
}

// A finished checkpoint is never written over: a second one of the same step gets a name of its own.
std::string free_name(const std::string& folder, int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
  std::string candidate = name;
  for (int i = 2; fs::exists(folder + "/" + candidate); ++i) candidate = message(name, "-", i);
  return candidate;
}

Tensor number(int64_t value) { return Tensor::from({value}, {}); }

std::string save_state(const std::string& path, const RunState& state) {
  Metadata metadata = {{"schedules", state.schedules}};
  for (const auto& [key, value] : state.notes) metadata[std::string(note_prefix) + key] = value;
  nn::NamedTensors tensors = {{"step", number(state.step)},
                              {"next_batch", number(state.next_batch)},
                              {"random.seed", number(static_cast<int64_t>(random_seed()))},
                              {"random.step", number(static_cast<int64_t>(random_step()))}};
  for (const auto& [name, tensor] : state.schedule_state)
    tensors.emplace_back(std::string(schedule_prefix) + name, tensor);
  return save_safetensors(path, tensors, metadata);
}

int64_t read_number(const SafeTensors& file, const std::string& name, const std::string& path) {
  const auto named = [&](const auto& entry) { return entry.first == name; };
  const auto found = std::ranges::find_if(file.tensors, named);
  check<IoError>(found != file.tensors.end() && found->second.dtype() == DType::i64 && found->second.numel() == 1, path,
                 ": has no whole number `", name, "`");
  return found->second.item<int64_t>();
}

RunState to_run_state(const SafeTensors& file, const std::string& path) {
  RunState state{.step = read_number(file, "step", path), .next_batch = read_number(file, "next_batch", path)};
  for (const auto& [key, value] : file.metadata) {
    if (key == "schedules") state.schedules = value;
    if (key.starts_with(note_prefix)) state.notes[key.substr(note_prefix.size())] = value;
  }
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with(schedule_prefix))
      state.schedule_state.emplace_back(name.substr(schedule_prefix.size()), tensor);
  }
  return state;
}

// The digests of a checkpoint's files.
Json read_manifest(const std::string& checkpoint) {
  const std::string path = checkpoint + manifest_name;
  const Json manifest = Json::parse(read_file(path), nullptr, false);
  const auto field = [&](const char* key) { return manifest.is_object() ? manifest.value(key, Json()) : Json(); };
  Json files = field("files");
  check<IoError>(field("format") == format && files.is_object(), path,
                 ": damaged, or of another version: no manifest of format ", format);
  return files;
}

SafeTensors load_listed(const std::string& checkpoint, const char* name, const Json& files) {
  SafeTensors file = load_safetensors(checkpoint + name);
  check<IoError>(files.value(name + 1, Json()) == file.digest, checkpoint, name,
                 ": is not the file that manifest.json lists; its digest is ", file.digest);
  return file;
}

nn::NamedTensors copies(nn::NamedTensors state) {
  for (auto& [name, tensor] : state) tensor = clone(tensor);
  return state;
}

}  // namespace

std::string save_checkpoint(const std::string& folder, const nn::Module& model, const Optimizer& optimizer,
                            const RunState& state, int64_t keep) {
  check<ValueError>(keep >= 1, "save_checkpoint: keep is ", keep, ", must be at least 1");
  make_directories(folder);
  remove_leftovers(folder);
  const std::string name = free_name(folder, state.step), checkpoint = folder + "/" + name;
  try {
    make_directories(checkpoint);
    Json files;
    files[model_name + 1] = save(model, checkpoint + model_name);
    files[optimizer_name + 1] = save_safetensors(checkpoint + optimizer_name, optimizer.state_dict());
    files[state_name + 1] = save_state(checkpoint + state_name, state);
    write_file(checkpoint + manifest_name, Json{{"format", format}, {"step", state.step}, {"files", files}}.dump(2));
    point_link(folder + "/latest", name);
  } catch (...) {
    if (!is_complete(checkpoint)) discard(checkpoint);  // gives a full disk its space back
    throw;
  }
  const std::vector<fs::path> all = complete_checkpoints_newest_first(folder);
  for (size_t i = static_cast<size_t>(keep); i < all.size(); ++i) {
    if (all[i].filename() != name) discard(all[i]);
  }
  return checkpoint;
}

RunState load_checkpoint(const std::string& checkpoint, nn::Module& model, Optimizer& optimizer) {
  const Json files = read_manifest(checkpoint);
  const SafeTensors weights = load_listed(checkpoint, model_name, files);
  const SafeTensors moments = load_listed(checkpoint, optimizer_name, files);
  const SafeTensors numbers = load_listed(checkpoint, state_name, files);
  const std::string path = checkpoint + state_name;
  const RunState state = to_run_state(numbers, path);
  const auto seed = static_cast<uint64_t>(read_number(numbers, "random.seed", path));
  const auto random_step = static_cast<uint64_t>(read_number(numbers, "random.step", path));

  check<ValueError>(seed == random_seed(), checkpoint, ": was made with seed ", std::to_string(seed), ", now it is ",
                    std::to_string(random_seed()), "; call manual_seed() before the model is built");

  const nn::NamedTensors before = copies(model.state_dict());
  load(model, weights, checkpoint + model_name);
  try {
    optimizer.load_state_dict(moments.tensors);
  } catch (const ValueError& error) {
    model.load_state_dict(before);
    fail<ValueError>(checkpoint, optimizer_name, ": ", error.what());
  }
  optimizer.set_steps_done(state.step);
  manual_seed(seed);
  set_random_step(random_step);
  return state;
}

void load_weights(const std::string& checkpoint, nn::Module& model) {
  load(model, load_listed(checkpoint, model_name, read_manifest(checkpoint)), checkpoint + model_name);
}

RunState read_run_state(const std::string& checkpoint) {
  return to_run_state(load_listed(checkpoint, state_name, read_manifest(checkpoint)), checkpoint + state_name);
}

std::string find_checkpoint(const std::string& path) {
  if (is_complete(path)) return path;
  for (const std::string& folder : {path, path + "/checkpoints"}) {
    if (is_complete(folder + "/latest")) return folder + "/" + fs::read_symlink(folder + "/latest").string();
    if (!fs::is_directory(folder)) continue;
    const std::vector<fs::path> all = complete_checkpoints_newest_first(folder);
    if (!all.empty()) return all.front().string();
  }
  return {};
}

}  // namespace mahia::train
