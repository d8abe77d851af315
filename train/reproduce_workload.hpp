// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "../nn/models/hyena_lm.hpp"
#include "data/synthetic/task.hpp"
#include "reproduce_recipe.hpp"

namespace mahia::train {

// Throws ValueError for sizes that the task cannot have.
void validate(const Recipe& recipe);

// What a model reached on the test examples: accuracy per target and of whole examples. Of linear functions, `score` is
// the error at the last pair, less is better, and `exact` is 0.
struct Score {
  double score = 0, exact = 0;
};

// A recipe made concrete for one seed: model, data, loss and scoring. The model is built on the CPU from the current
// manual_seed.
class Workload {
 public:
  static std::unique_ptr<Workload> make(const Recipe& recipe, uint64_t seed);
  virtual ~Workload() = default;

  nn::models::HyenaLM& model() { return model_; }
  const std::shared_ptr<const BatchSource>& training() const { return training_; }
  // Of a training batch, [].
  virtual Tensor loss(const Batch& batch) const = 0;
  // Of the model as it is, in eval mode and without gradients; changes nothing.
  Score score();
  virtual std::vector<synthetic::Baseline> baselines() const = 0;

 protected:
  Workload(const nn::models::HyenaLMConfig& config, std::shared_ptr<const BatchSource> training,
           std::vector<Batch> test)
      : model_(config), training_(std::move(training)), test_(std::move(test)) {}
  virtual Score score_of(const std::vector<Batch>& test, Device device) const = 0;
  const std::vector<Batch>& test() const { return test_; }
  const nn::models::HyenaLM& trained() const { return model_; }

 private:
  nn::models::HyenaLM model_;
  std::shared_ptr<const BatchSource> training_;
  std::vector<Batch> test_;
};

bool less_is_better(const Recipe& recipe);

}  // namespace mahia::train
