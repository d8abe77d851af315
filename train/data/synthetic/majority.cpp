// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/error.hpp"
#include "train/data/synthetic/task.hpp"

namespace mahia::train::synthetic {
namespace {

// Symbols 0 ... V - 2 and an end token, at which the most frequent symbol is asked for; ties are drawn again.
class Majority : public Task {
 public:
  Majority(int64_t vocab, int64_t length)
      : Task({.vocab = vocab, .length = length + 1, .scored = 1, .chance = 1 / static_cast<double>(vocab - 1)}) {}

  Example draw(Draws& draws) const override {
    const auto length = static_cast<size_t>(sizes().length - 1);
    for (;;) {
      Example e{std::vector<int64_t>(length + 1, sizes().vocab - 1), std::vector<int64_t>(length + 1, ignored)};
      std::vector<int64_t> count(static_cast<size_t>(sizes().vocab - 1));
      for (size_t i = 0; i < length; ++i) {
        e.tokens[i] = draws.below(sizes().vocab - 1);
        ++count[static_cast<size_t>(e.tokens[i])];
      }
      const auto winner = std::max_element(count.begin(), count.end());
      if (std::count(count.begin(), count.end(), *winner) > 1) continue;
      e.targets[length] = winner - count.begin();
      return e;
    }
  }

  std::vector<Baseline> baselines(const std::vector<Example>& examples) const override {
    std::vector<Baseline> all = Task::baselines(examples);
    all.push_back(random_value_of_prompt(*this, examples, 0, sizes().vocab - 2));
    return all;
  }
};

}  // namespace

std::unique_ptr<Task> majority(int64_t vocab, int64_t length) {
  check<ValueError>(vocab >= 3 && length >= 1, "majority: vocab ", vocab, " must be at least 3 and length ", length,
                    " at least 1");
  return std::make_unique<Majority>(vocab, length);
}

}  // namespace mahia::train::synthetic
