// SPDX-License-Identifier: Apache-2.0
#include "train/reproduce_recipe.hpp"

#include <algorithm>
#include <functional>

#include "core/error.hpp"

namespace mahia::train {
namespace {

constexpr int64_t most = int64_t{1} << 40;

struct Tiers {
  const char* task;
  Recipe one, two, three;
};

// Where a task shows 20,000 examples, 50 epochs are the steps of 200 epochs of 5,000.
const Tiers all_tiers[] = {
    {"associative-recall",
     {.vocab = 10, .length = 20, .epochs = 80},
     {.vocab = 20, .length = 64, .evaluate_every = 8},
     {.vocab = 30, .length = 2048}},
    {"induction-head",
     {.vocab = 20, .length = 30, .epochs = 120},
     {.vocab = 20, .length = 64, .evaluate_every = 8},
     {.vocab = 20, .length = 2048}},
    {"mqar",
     {.vocab = 256,
      .length = 64,
      .train_examples = 20000,
      .mlp = false,
      .batch = 64,
      .epochs = 20,
      .schedule_epochs = 20,
      .evaluate_every = 1,
      .lr = 2e-3,
      .stop_at = 0.99},
     {.vocab = 1024,
      .length = 64,
      .train_examples = 50000,
      .mlp = false,
      .batch = 64,
      .epochs = 30,
      .schedule_epochs = 30,
      .evaluate_every = 1,
      .lr = 2e-3,
      .stop_at = 0.99},
     {.vocab = 8192,
      .length = 64,
      .train_examples = 100000,
      .test_examples = 3000,
      .mlp = false,
      .batch = 512,
      .epochs = 64,
      .schedule_epochs = 64,
      .evaluate_every = 1,
      .lr = 2e-3,
      .stop_at = 0.99}},
    {"arithmetic",
     {.digits = 2, .train_examples = 20000, .layers = 1, .epochs = 12, .schedule_epochs = 50, .evaluate_every = 1},
     {.digits = 4, .train_examples = 20000, .layers = 1, .epochs = 50, .schedule_epochs = 50},
     {.digits = 16, .train_examples = 20000}},
    {"majority",
     {.vocab = 10, .length = 64, .epochs = 20},
     {.vocab = 20, .length = 64, .train_examples = 20000, .epochs = 50, .schedule_epochs = 50},
     {.vocab = 40, .length = 128, .train_examples = 20000}},
    {"counting",
     {.vocab = 20, .length = 30, .train_examples = 20000, .epochs = 20, .schedule_epochs = 50, .evaluate_every = 1},
     {.vocab = 20, .length = 64, .train_examples = 20000, .epochs = 50, .schedule_epochs = 50},
     {.vocab = 40, .length = 128, .train_examples = 20000}},
    {"linear-functions",
     {.epochs = 40},
     {.train_examples = 20000, .epochs = 50, .schedule_epochs = 50},
     {.dimension = 20, .train_examples = 100000}},
};

}  // namespace

std::vector<std::string> reproduce_tasks() {
  std::vector<std::string> names;
  for (const Tiers& t : all_tiers) names.emplace_back(t.task);
  return names;
}

Recipe recipe_of(const std::string& task, int tier) {
  const auto found = std::ranges::find(all_tiers, task, &Tiers::task);
  check<ValueError>(found != std::end(all_tiers), "reproduce: there is no task `", task, "`");
  check<ValueError>(tier >= 1 && tier <= 3, "reproduce: tier is ", tier, ", must be 1, 2 or 3");
  Recipe recipe = tier == 1 ? found->one : tier == 2 ? found->two : found->three;
  recipe.task = task;
  return recipe;
}

std::optional<double> published_accuracy(const Recipe& r) {
  struct Published {
    int64_t vocab, length;
    double accuracy;
  };
  if (r.task != "associative-recall") return {};
  for (const Published& p : {Published{10, 2048, 1}, Published{20, 2048, 1}, Published{30, 2048, 0.85},
                             Published{40, 2048, 0.98}, Published{30, 131072, 0.972}}) {
    if (p.vocab == r.vocab && p.length == r.length) return p.accuracy;
  }
  return {};
}

std::span<const RecipeNumber> recipe_numbers() {
  const std::vector<std::string> sequences = {"associative-recall", "induction-head", "mqar", "majority", "counting"};
  static const std::vector<RecipeNumber> numbers = {
      {"vocab", &Recipe::vocab, 2, 1 << 20, "V, size of the vocabulary", sequences},
      {"length", &Recipe::length, 1, most, "L, length of the prompt", sequences},
      {"pairs", &Recipe::pairs, 1, most, "pairs of key and value", {"mqar"}},
      {"digits", &Recipe::digits, 1, 1000, "digits of each summand", {"arithmetic"}},
      {"dimension", &Recipe::dimension, 1, 1000, "dimension of the functions", {"linear-functions"}},
      {"train-examples", &Recipe::train_examples, 1, most, "examples of an epoch"},
      {"test-examples", &Recipe::test_examples, 1, most, "examples of an evaluation"},
      {"width", &Recipe::width, 1, 1 << 16, "D, width of the model"},
      {"layers", &Recipe::layers, 1, 1000, "blocks of the model"},
      {"batch", &Recipe::batch, 1, 1 << 20, "examples of an optimizer step"},
      {"micro-batches", &Recipe::micro_batches, 1, 1 << 20, "pieces that a step's examples are divided into"},
      {"epochs", &Recipe::epochs, 1, most, "epochs to train"},
      {"schedule-epochs", &Recipe::schedule_epochs, 1, most, "epochs until the learning rate is 0"},
      {"evaluate-every", &Recipe::evaluate_every, 1, most, "epochs between evaluations"},
  };
  return numbers;
}

bool applies(const RecipeNumber& number, const std::string& task) {
  return number.tasks.empty() || std::ranges::find(number.tasks, task) != number.tasks.end();
}

}  // namespace mahia::train
