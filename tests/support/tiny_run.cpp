// SPDX-License-Identifier: Apache-2.0
#include "tests/support/tiny_run.hpp"

#include <algorithm>
#include <array>
#include <fstream>

#include "core/random.hpp"

namespace mahia::tests {
namespace {

nn::models::HyenaMoeLMConfig seeded_config() {
  manual_seed(7);
  return tiny_config();
}

}  // namespace

nn::models::HyenaMoeLMConfig tiny_config() {
  return {.vocab = 128, .width = 16, .layers = 2, .l_max = 32, .experts = 4, .hidden = 16, .dropout = 0.1};
}

TinyRun::TinyRun(const std::string& text_path)
    : model(seeded_config()), optimizer(model), text(std::make_shared<const train::ByteText>(text_path)) {}

train::TrainingResult TinyRun::train(train::TrainerOptions options) {
  options.schedules = {
      .lr = {.kind = train::ScheduleKind::cosine, .peak = 0.01, .steps = 100, .warmup = 3},
      .aux = {.balance = {.kind = train::ScheduleKind::linear, .peak = 0.02, .final = 0.001, .steps = 50}}};
  const auto batches = std::make_shared<train::TextBatches>(text, 4, 32, 11);
  return train::Trainer(model, optimizer, batches, std::move(options)).run();
}

nn::NamedTensors TinyRun::state() const {
  nn::NamedTensors state = model.state_dict();
  for (const auto& entry : optimizer.state_dict()) state.push_back(entry);
  return state;
}

void write_tiny_text(const std::string& path) {
  constexpr std::array<const char*, 6> words = {"and ", "the ", "lord ", "said ", "unto ", "moses, "};
  std::ofstream file(path, std::ios::binary);
  for (uint32_t i = 0; i < 2000; ++i) file << words[philox({i, 0, 0, 0}, {1, 2})[0] % words.size()];
}

}  // namespace mahia::tests
