// SPDX-License-Identifier: Apache-2.0
#include "train/routing_files.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <map>

#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "train/safetensors.hpp"

namespace mahia::train {
namespace {

constexpr std::string_view prefix = "step-", suffix = ".safetensors";

std::string path_of(const std::string& folder, int64_t step) {
  char name[48];
  std::snprintf(name, sizeof name, "/step-%08lld.safetensors", static_cast<long long>(step));
  return folder + name;
}

// A whole number that takes up all of `text`, or -1.
int64_t whole(std::string_view text) {
  int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value >= 0 ? value : -1;
}

int64_t number_of(const SafeTensors& file, const std::string& key, const std::string& path) {
  const auto found = file.metadata.find(key);
  const int64_t value = found == file.metadata.end() ? -1 : whole(found->second);
  check<IoError>(value >= 0, path, ": is no record of routing: its metadata has no whole number `", key, "`");
  return value;
}

std::string name_of(int64_t micro_batch, int64_t call) { return message(micro_batch, ".", call); }

nn::RouterChoice choice_of(const Tensor& stored, int64_t num_experts, const std::string& what) {
  const Tensor indices = copy_to(stored, cpu_device, DType::i64);
  const std::vector<int64_t> all = indices.to_vector<int64_t>();
  check<IoError>(indices.rank() == 2 && std::ranges::all_of(all, [&](int64_t e) { return e >= 0 && e < num_experts; }),
                 what, ": must be (N, k) experts below ", num_experts, ", is ", stored);
  return {indices, num_experts};
}

}  // namespace

std::vector<nn::RouterChoices> RoutedStep::micro_batches() const {
  std::vector<nn::RouterChoices> all;
  for (int64_t i = 0; i < micro_batch_count; ++i)
    all.emplace_back(choices.begin() + i * layers(), choices.begin() + (i + 1) * layers());
  return all;
}

void save_routing(const std::string& folder, const RoutedStep& step) {
  const int64_t layers = step.layers();
  nn::NamedTensors tensors;
  Metadata metadata = {{"step", std::to_string(step.step)},
                       {"micro_batches", std::to_string(step.micro_batch_count)},
                       {"layers", std::to_string(layers)}};
  for (int64_t i = 0; i < std::ssize(step.choices); ++i) {
    const nn::RouterChoice& choice = step.choices[static_cast<size_t>(i)];
    const DType small = choice.num_experts <= 256 ? DType::u8 : DType::i32;
    tensors.emplace_back(name_of(i / layers, i % layers), copy_to(choice.indices, cpu_device, small));
    metadata["experts." + std::to_string(i % layers)] = std::to_string(choice.num_experts);
  }
  save_safetensors(path_of(folder, step.step), tensors, metadata);
}

RoutedStep load_routing(const std::string& folder, int64_t step) {
  const std::string path = path_of(folder, step);
  const SafeTensors file = load_safetensors(path);
  RoutedStep loaded{step, number_of(file, "micro_batches", path), {}};
  const int64_t layers = number_of(file, "layers", path);
  const std::map<std::string, Tensor> tensors(file.tensors.begin(), file.tensors.end());
  check<IoError>(loaded.micro_batch_count >= 1 && std::ssize(tensors) == loaded.micro_batch_count * layers, path,
                 ": is no record of routing: ", tensors.size(), " tensors for ", loaded.micro_batch_count,
                 " micro-batches of ", layers, " layers");
  for (int64_t i = 0; i < loaded.micro_batch_count * layers; ++i) {
    const std::string name = name_of(i / layers, i % layers);
    const auto found = tensors.find(name);
    check<IoError>(found != tensors.end(), path, ": has no tensor `", name, "`");
    const int64_t experts = number_of(file, "experts." + std::to_string(i % layers), path);
    loaded.choices.push_back(choice_of(found->second, experts, path + ": " + name));
  }
  return loaded;
}

std::vector<int64_t> routed_steps(const std::string& folder) {
  check<IoError>(std::filesystem::is_directory(folder), folder, ": no folder of recorded routing");
  std::vector<int64_t> steps;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix) || !name.ends_with(suffix)) continue;
    const int64_t step =
        whole(std::string_view(name).substr(prefix.size(), name.size() - prefix.size() - suffix.size()));
    if (step >= 0) steps.push_back(step);
  }
  check<IoError>(!steps.empty(), folder, ": no recorded routing here");
  std::ranges::sort(steps);
  return steps;
}

}  // namespace mahia::train
