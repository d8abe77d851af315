// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/kernel.hpp"
#include "core/parallel.hpp"
#include "core/runtime.hpp"
#include "train/file.hpp"
#include "train/main_commands.hpp"
#include "train/metrics.hpp"
#include "train/run_charts.hpp"
#include "train/safetensors.hpp"
#include "train/what_if.hpp"

namespace mahia::train {
namespace {

int plot(const std::string& folder, bool json) {
  read_environment();  // checks it
  const Metrics metrics = read_metrics(folder + "/metrics.jsonl");
  const bool has_config = std::filesystem::exists(folder + "/config.toml");
  const RunConfig config = has_config ? read_config(folder + "/config.toml") : RunConfig{};
  std::vector<std::string> paths;
  std::string lines;
  for (const auto& [name, picture] : run_charts(config, metrics)) {
    paths.push_back(folder + "/" + name);
    write_file(paths.back(), picture);
    lines += (lines.empty() ? "" : "\n") + paths.back();
  }
  std::printf("%s\n", json ? nlohmann::json{{"files", paths}}.dump().c_str() : lines.c_str());
  return 0;
}

// Text of a file as one line that a terminal cannot take for commands.
std::string printable(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = byte >= 0x20 && byte != 0x7f;
    out += plain ? std::string(1, c) : fmt::format("\\x{:02x}", byte);
  }
  return out;
}

int inspect(const std::string& path, bool json) {
  read_environment();  // checks it
  const SafeTensors file = load_safetensors(path);
  int64_t elements = 0;
  for (const auto& [name, tensor] : file.tensors) {
    elements += tensor.numel();
    const std::string dtype = message(tensor.dtype());
    if (json) {
      const std::vector<int64_t> shape(tensor.shape().begin(), tensor.shape().end());
      std::printf("%s\n", nlohmann::ordered_json{{"name", name}, {"dtype", dtype}, {"shape", shape}}.dump().c_str());
    } else {
      std::printf("%-60s %-5s %s\n", printable(name).c_str(), dtype.c_str(), message(tensor.shape()).c_str());
    }
  }
  if (json) return 0;
  for (const auto& [key, value] : file.metadata)
    std::printf("metadata %s: %s\n", printable(key).c_str(), printable(value).c_str());
  std::printf("%zu tensors, %lld elements\n", file.tensors.size(), static_cast<long long>(elements));
  return 0;
}

int info(bool json) {
  const Environment environment = read_environment();
  const int cuda = device_count();
  if (json) {
    std::printf("{\"version\": \"%s\", \"threads\": %d, \"cuda_devices\": %d, \"kernels\": %zu}\n", MAHIA_VERSION,
                num_threads(), cuda, all_kernels().size());
    return 0;
  }
  std::printf("mahia %s\nworker threads  %d\nCUDA devices    %d%s\nkernels         %zu\ndefault device  %s\n",
              MAHIA_VERSION, num_threads(), cuda,
              has_runtime(DeviceType::cuda) ? "" : " (this build has no CUDA backend)", all_kernels().size(),
              environment.device.c_str());
  return 0;
}

int report_routing(const std::string& folder, const WhatIfOptions& options, bool json) {
  read_environment();  // checks it
  const std::vector<WhatIf> layers = what_if(folder, options);
  std::printf("%s", json ? (to_json(layers) + "\n").c_str() : to_table(layers).c_str());
  return 0;
}

}  // namespace

void add_what_if(CLI::App& app, int& status) {
  const auto folder = std::make_shared<std::string>();
  const auto options = std::make_shared<WhatIfOptions>();
  const auto json = std::make_shared<bool>(false);
  CLI::App* command =
      app.add_subcommand("what-if",
                         "Ask of recorded routing what other capacities and devices would meet with.\n\n"
                         "  mahia train --config FILE --out runs/a --record-routing runs/a/routing\n"
                         "  mahia what-if runs/a/routing --capacity 1 --capacity 1.5 --devices 4");
  command->add_option("folder", *folder, "what --record-routing wrote")->required();
  command->add_option("--capacity", options->capacities, "slots per expert over k N / E; may be repeated")
      ->check(CLI::Range(1e-6, 1e6))
      ->allow_extra_args(false);
  command->add_option("--devices", options->devices, "how many share a layer's experts; may be repeated")
      ->check(CLI::Range(1, 65536))
      ->allow_extra_args(false);
  command->add_flag("--json", *json, "print the report as JSON");
  command->callback([folder, options, json, &status] { status = report_routing(*folder, *options, *json); });
}

void add_plot(CLI::App& app, int& status) {
  const auto folder = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("plot",
                                         "Draw a run in its folder: loss.svg, and how its experts were used.\n\n"
                                         "  mahia plot runs/demo");
  command->add_option("run", *folder, "the run's folder, with metrics.jsonl")->required();
  const auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "print the files' names as JSON");
  command->callback([folder, json, &status] { status = plot(*folder, *json); });
}

void add_inspect(CLI::App& app, int& status) {
  const auto path = std::make_shared<std::string>();
  const auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("inspect",
                                         "List the tensors of a safetensors file.\n\n"
                                         "  mahia inspect runs/demo/checkpoints/latest/model.safetensors");
  command->add_option("file", *path, "the file")->required();
  command->add_flag("--json", *json, "a line of JSON per tensor");
  command->callback([path, json, &status] { status = inspect(*path, *json); });
}

void add_info(CLI::App& app, int& status) {
  const auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("info", "Say what this build and machine offer.");
  command->add_flag("--json", *json, "as JSON");
  command->callback([json, &status] { status = info(*json); });
}

}  // namespace mahia::train
