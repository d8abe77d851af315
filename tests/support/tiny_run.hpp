// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "nn/models/hyena_moe_lm.hpp"
#include "train/data/text.hpp"
#include "train/trainer.hpp"

namespace mahia::tests {

// A language model of a few thousand parameters, with all that makes a run hard to repeat: dropout, experts, an
// auxiliary loss, schedules. Sets the seed.
nn::models::HyenaMoeLMConfig tiny_config();
struct TinyRun {
  explicit TinyRun(const std::string& text_path);
  // Trains up to `options.steps`; schedules are set here.
  train::TrainingResult train(train::TrainerOptions options);
  // All weights and moments.
  nn::NamedTensors state() const;

  nn::models::HyenaMoeLM model;
  train::AdamW optimizer;
  std::shared_ptr<const train::ByteText> text;
};

// A text that can be learned: words of a small vocabulary in a pseudo-random order.
void write_tiny_text(const std::string& path);

}  // namespace mahia::tests
