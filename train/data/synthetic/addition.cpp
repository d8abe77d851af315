// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/error.hpp"
#include "train/data/synthetic/task.hpp"

namespace mahia::train::synthetic {
namespace {

// The digits of a, of b and, asked for one by one, of a + b with a digit more; the highest digit first.
class Addition : public Task {
 public:
  explicit Addition(int64_t digits)
      : Task({.vocab = 10, .length = 3 * digits, .scored = digits + 1, .chance = 0.1}), digits_(digits) {}

  Example draw(Draws& draws) const override {
    const auto n = static_cast<size_t>(digits_);
    std::vector<int64_t> words(3 * n + 1);
    for (size_t i = 0; i < 2 * n; ++i) words[i] = draws.below(10);
    int64_t carry = 0;
    for (size_t i = n; i-- > 0;) {
      const int64_t sum = words[i] + words[n + i] + carry;
      words[2 * n + 1 + i] = sum % 10;
      carry = sum / 10;
    }
    words[2 * n] = carry;
    Example e = next_token_example(std::move(words));
    std::fill_n(e.targets.begin(), 2 * n - 1, ignored);
    return e;
  }

 private:
  int64_t digits_;
};

}  // namespace

std::unique_ptr<Task> addition(int64_t digits) {
  check<ValueError>(digits >= 1, "addition: digits is ", digits, ", must be at least 1");
  return std::make_unique<Addition>(digits);
}

}  // namespace mahia::train::synthetic
