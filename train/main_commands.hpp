// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "nn/models/hyena_moe_lm.hpp"
#include "train/config.hpp"
#include "train/data/text.hpp"

namespace CLI {
class App;
}

namespace mahia::train {

// Exit codes of the program besides 0; a run that a signal ended gives 128 + signal.
inline constexpr int exit_error = 1, exit_usage = 2;

// A wrong command line, configuration or environment. It ends with exit_usage, every other Error with exit_error.
struct UsageError : Error {
  using Error::Error;
};

// Each adds one command with its options to the program; `status` is what the process exits with.
void add_train(CLI::App& app, int& status);
void add_eval(CLI::App& app, int& status);
void add_generate(CLI::App& app, int& status);
void add_plot(CLI::App& app, int& status);
void add_what_if(CLI::App& app, int& status);
void add_audit(CLI::App& app, int& status);
void add_reproduce(CLI::App& app, int& status);
void add_inspect(CLI::App& app, int& status);
void add_info(CLI::App& app, int& status);

// Reads the MAHIA_ variables: a bad value throws UsageError naming variable, value and what is allowed; an unknown one
// is a warning on standard error. The command line is applied later and wins.
struct Environment {
  std::string device = "cpu";
  int64_t seed = -1;  // -1: not set
  bool check_nan = false;
  bool quiet = false;  // MAHIA_LOG=error or warning: no progress
};
Environment read_environment();
// Where a command works: its option, else MAHIA_DEVICE, else the CPU. Throws UsageError for what is no device's name,
// DeviceError when this build or machine has no such device.
Device device_for(const std::string& option, const Environment& environment);

// The text at `path`, as the configuration says that texts are stored.
std::shared_ptr<const TokenText> open_text(const RunConfig& config, const std::string& path);
// The batches of a run, those of its sequence warm-up first.
std::shared_ptr<const BatchSource> training_batches(const RunConfig& config, std::shared_ptr<const TokenText> text);

// A trained model and the configuration it was trained with.
struct TrainedModel {
  RunConfig config;
  std::unique_ptr<nn::models::HyenaMoeLM> model;
  int64_t step = 0;
};
// `path` is a checkpoint, or a run's folder, whose latest checkpoint is meant. The model is in eval mode on `device`.
// `change` may alter the configuration before the model is built. Throws IoError, ValueError.
TrainedModel load_trained(const std::string& path, Device device, const std::function<void(RunConfig&)>& change = {});
std::unique_ptr<nn::models::HyenaMoeLM> build_model(const RunConfig& config);

}  // namespace mahia::train
