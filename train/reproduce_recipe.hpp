// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace mahia::train {

// One experiment on a synthetic task: sizes, model, training. Counted in epochs of `train_examples` as the published
// recipes are; the defaults are theirs (Poli et al. 2023, appendix A).
struct Recipe {
  std::string task = "associative-recall";
  int64_t vocab = 10, length = 20, pairs = 4, digits = 2, dimension = 5;  // of the task, where it has them
  int64_t train_examples = 5000, test_examples = 500;
  int64_t width = 64, layers = 2;
  bool mlp = true;
  int64_t batch = 32, micro_batches = 1;        // a batch is made of so many pieces, whose gradients are averaged
  int64_t epochs = 200, schedule_epochs = 200;  // of the run; until the learning rate is 0
  int64_t evaluate_every = 4;                   // epochs
  double lr = 5e-4, warmup = 0.1;               // peak, cosine to 0; share of the schedule that is warm-up
  double beta2 = 0.98, weight_decay = 0.1;      // AdamW; no decay of filters, norms and biases
  double stop_at = 0;                           // accuracy that ends the run; 0: none does

  // Optimizer steps after so many epochs, rounded up.
  int64_t steps(int64_t after_epochs) const { return (after_epochs * train_examples + batch - 1) / batch; }
  double epoch(int64_t step) const { return static_cast<double>(step * batch) / static_cast<double>(train_examples); }
};

std::vector<std::string> reproduce_tasks();

// Tier 1 takes minutes on two cores, tier 2 up to an hour, tier 3 a GPU. Throws ValueError for an unknown task or tier.
Recipe recipe_of(const std::string& task, int tier);

// The published accuracy at exactly these sizes.
std::optional<double> published_accuracy(const Recipe& recipe);

// The whole numbers of a recipe: how each is called, what it may be, which tasks have it (empty: all).
struct RecipeNumber {
  const char* name;
  int64_t Recipe::*value;
  int64_t low, high;
  const char* what;
  std::vector<std::string> tasks = {};
};
std::span<const RecipeNumber> recipe_numbers();
bool applies(const RecipeNumber& number, const std::string& task);

}  // namespace mahia::train
