// SPDX-License-Identifier: Apache-2.0
// What tests kill: a training run, and two programs that save without end, one of them the wrong way.
//   mahia-tests-child train TEXT OUT STEPS THREADS      trains, resumes if it can, exits with 128 + signal
//   mahia-tests-child save FOLDER                       saves checkpoints whose weights all equal their step
//   mahia-tests-child overwrite FILE                    saves the same weights in place
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "core/parallel.hpp"
#include "tests/support/saved_model.hpp"
#include "tests/support/tiny_run.hpp"
#include "train/file.hpp"

namespace {

using namespace mahia;

int run_training(const std::vector<std::string>& words) {
  set_num_threads(std::stoi(words[4]));
  train::TrainerOptions options;
  options.steps = std::stoll(words[3]);
  options.out = words[2];
  options.resume = true;
  options.log_every = 1;
  options.checkpoint_every = 3;
  const train::TrainingResult result = tests::TinyRun(words[1]).train(options);
  return result.signal == 0 ? 0 : 128 + result.signal;
}

[[noreturn]] void save_without_end(const std::string& folder) {
  tests::SavedModel saved;
  for (int64_t step = 1;; ++step) {
    saved.set(step);
    train::save_checkpoint(folder, saved.model, saved.optimizer, {.step = step});
  }
}

[[noreturn]] void overwrite_without_end(const std::string& path) {
  train::save(tests::SavedModel().model, path + ".once");
  const std::string bytes = train::read_file(path + ".once");
  for (;;) {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    for (size_t at = 0; at < bytes.size(); at += 4096) file << bytes.substr(at, 4096) << std::flush;
  }
}

}  // namespace

int main(int count, char** words) {
  const std::vector<std::string> arguments(words + 1, words + count);
  try {
    if (arguments.size() == 5 && arguments[0] == "train") return run_training(arguments);
    if (arguments.size() == 2 && arguments[0] == "save") save_without_end(arguments[1]);
    if (arguments.size() == 2 && arguments[0] == "overwrite") overwrite_without_end(arguments[1]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
  return 2;
}
