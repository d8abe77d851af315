// SPDX-License-Identifier: Apache-2.0
#include "core/error.hpp"
#include "train/data/synthetic/task.hpp"

namespace mahia::train::synthetic {
namespace {

// Random tokens with one "=>" among them; at a second "=>" behind them, what followed the first is asked for. The loss
// is over all positions. Words as in associative recall.
class InductionHead : public Task {
 public:
  InductionHead(int64_t vocab, int64_t length)
      : Task({.vocab = vocab, .length = length + 1, .scored = 1, .chance = 1 / static_cast<double>(vocab - 2)}) {}

  Example draw(Draws& draws) const override {
    const int64_t length = sizes().length - 1, copy_prefix = sizes().vocab - 1;
    std::vector<int64_t> words;
    words.reserve(static_cast<size_t>(length) + 2);
    for (int64_t i = 0; i < length; ++i) words.push_back(1 + draws.below(sizes().vocab - 2));
    words.push_back(copy_prefix);
    const auto place = static_cast<size_t>(draws.below(length - 1));
    words[place] = copy_prefix;
    words.push_back(words[place + 1]);
    return next_token_example(std::move(words));
  }

  std::vector<Baseline> baselines(const std::vector<Example>& examples) const override {
    std::vector<Baseline> all = Task::baselines(examples);
    all.push_back(random_value_of_prompt(*this, examples, 1, sizes().vocab - 2));
    all.push_back(frequent_value_of_prompt(*this, examples, 1, sizes().vocab - 2));
    return all;
  }
};

}  // namespace

std::unique_ptr<Task> induction_head(int64_t vocab, int64_t length) {
  check<ValueError>(vocab >= 3 && length >= 2, "induction head: vocab ", vocab, " must be at least 3 and length ",
                    length, " at least 2");
  return std::make_unique<InductionHead>(vocab, length);
}

}  // namespace mahia::train::synthetic
