// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/error.hpp"
#include "train/data/synthetic/task.hpp"

namespace mahia::train::synthetic {
namespace {

// Symbols 0 ... V - 2, an end token, and a symbol whose count among them, at most V - 1, is asked for as an id.
class Counting : public Task {
 public:
  Counting(int64_t vocab, int64_t length)
      : Task({.vocab = vocab, .length = length + 2, .scored = 1, .chance = 1 / static_cast<double>(vocab)}) {}

  Example draw(Draws& draws) const override {
    const int64_t most = sizes().vocab - 1;
    Example e{{}, std::vector<int64_t>(static_cast<size_t>(sizes().length), ignored)};
    for (int64_t i = 0; i < sizes().length - 2; ++i) e.tokens.push_back(draws.below(most));
    const int64_t query = draws.below(most), count = std::count(e.tokens.begin(), e.tokens.end(), query);
    e.tokens.insert(e.tokens.end(), {most, query});
    e.targets.back() = std::min(count, most);
    return e;
  }
};

}  // namespace

std::unique_ptr<Task> counting(int64_t vocab, int64_t length) {
  check<ValueError>(vocab >= 2 && length >= 1, "counting: vocab ", vocab, " must be at least 2 and length ", length,
                    " at least 1");
  return std::make_unique<Counting>(vocab, length);
}

}  // namespace mahia::train::synthetic
