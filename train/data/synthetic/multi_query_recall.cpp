// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "core/error.hpp"
#include "train/data/synthetic/task.hpp"

namespace mahia::train::synthetic {
namespace {

constexpr double power = 0.01;    // a: queries favour early slots, p(slot i) ~ a i^(a-1)
constexpr double scale = 0x1p32;  // weights of slots are integers, so that every platform draws the same slots

// `count` different numbers of [0, n) in the order they were drawn.
std::vector<int64_t> distinct(Draws& draws, int64_t count, int64_t n) {
  std::vector<bool> taken(static_cast<size_t>(n));
  std::vector<int64_t> drawn;
  while (static_cast<int64_t>(drawn.size()) < count) {
    const int64_t x = draws.below(n);
    if (!taken[static_cast<size_t>(x)]) drawn.push_back(x);
    taken[static_cast<size_t>(x)] = true;
  }
  return drawn;
}

// Pairs of key and value, then each key once more at the beginning of a slot of two among filler (id 0), where its
// value is asked for (Arora et al. 2023). Keys are the ids 1 ... V/2 - 1, values V/2 ... V - 1.
class MultiQueryRecall : public Task {
 public:
  MultiQueryRecall(int64_t vocab, int64_t length, int64_t pairs)
      : Task({.vocab = vocab, .length = length, .scored = length, .chance = 2 / static_cast<double>(vocab)}),
        pairs_(pairs) {
    const int64_t slots = (length - 2 * pairs) / 2;
    int64_t total = 0;
    for (int64_t i = 1; i <= slots; ++i) {
      total += std::llround(scale * std::pow(static_cast<double>(i), power - 1));
      reach_.push_back(total);
    }
  }

  Example draw(Draws& draws) const override {
    const auto size = static_cast<size_t>(sizes().length), context = static_cast<size_t>(2 * pairs_);
    const int64_t half = sizes().vocab / 2;
    const std::vector<int64_t> keys = distinct(draws, pairs_, half - 1), values = distinct(draws, pairs_, half);
    Example e{std::vector<int64_t>(size, 0), std::vector<int64_t>(size, ignored)};
    std::vector<bool> taken(reach_.size());
    for (size_t i = 0; i < keys.size(); ++i) {
      const size_t query = context + 2 * free_slot(draws, taken);
      e.tokens[2 * i] = e.tokens[query] = 1 + keys[i];
      e.tokens[2 * i + 1] = e.targets[query] = half + values[i];
    }
    return e;
  }

  std::vector<Baseline> baselines(const std::vector<Example>& examples) const override {
    std::vector<Baseline> all = Task::baselines(examples);
    all.push_back(random_value_of_prompt(*this, examples, sizes().vocab / 2, sizes().vocab - 1));
    return all;
  }

 private:
  size_t free_slot(Draws& draws, std::vector<bool>& taken) const {
    for (;;) {
      const auto found = std::upper_bound(reach_.begin(), reach_.end(), draws.below(reach_.back()));
      const auto slot = static_cast<size_t>(found - reach_.begin());
      if (taken[slot]) continue;
      taken[slot] = true;
      return slot;
    }
  }

  int64_t pairs_;
  std::vector<int64_t> reach_;  // sums of the slots' weights
};

}  // namespace

std::unique_ptr<Task> multi_query_recall(int64_t vocab, int64_t length, int64_t pairs) {
  check<ValueError>(length % 2 == 0 && pairs >= 1 && 4 * pairs <= length, "multi-query recall: length ", length,
                    " must be even and at least 4 times the pairs, of which there are ", pairs);
  check<ValueError>(vocab > length && vocab % 2 == 0, "multi-query recall: vocab ", vocab,
                    " must be even and exceed the length ", length);
  return std::make_unique<MultiQueryRecall>(vocab, length, pairs);
}

}  // namespace mahia::train::synthetic
