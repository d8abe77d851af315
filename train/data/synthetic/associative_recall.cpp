// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/error.hpp"
#include "train/data/synthetic/task.hpp"

namespace mahia::train::synthetic {
namespace {

// A fresh map from keys to values, shown as pairs with keys drawn with replacement; then "=>" and a key that occurred,
// whose value is asked for. The loss is over all positions.
class AssociativeRecall : public Task {
 public:
  AssociativeRecall(int64_t vocab, int64_t length)
      : Task({.vocab = vocab,
              .length = length + 2,
              .scored = 1,
              .chance = 1 / static_cast<double>(vocab - 2 - (vocab - 2) / 2)}),
        keys_((vocab - 2) / 2),
        values_(vocab - 2 - keys_),
        pairs_(length / 2) {}

  Example draw(Draws& draws) const override {
    std::vector<int64_t> value(static_cast<size_t>(keys_)), words, seen;
    words.reserve(static_cast<size_t>(sizes().length) + 1);
    for (int64_t& v : value) v = first_value() + draws.below(values_);
    for (int64_t i = 0; i < pairs_; ++i) append_pair(words, value, draws.below(keys_));
    for (int64_t k = 0; k < keys_; ++k) {
      if (occurs(words, first_key + k)) seen.push_back(k);
    }
    words.push_back(sizes().vocab - 1);  // "=>"
    append_pair(words, value, seen[static_cast<size_t>(draws.below(static_cast<int64_t>(seen.size())))]);
    return next_token_example(std::move(words));
  }

  std::vector<Baseline> baselines(const std::vector<Example>& examples) const override {
    std::vector<Baseline> all = Task::baselines(examples);
    const int64_t last_value = sizes().vocab - 2;
    all.push_back(random_value_of_prompt(*this, examples, first_value(), last_value));
    all.push_back(frequent_value_of_prompt(*this, examples, first_value(), last_value));
    return all;
  }

 private:
  static constexpr int64_t first_key = 1;  // behind "."
  int64_t first_value() const { return first_key + keys_; }

  static void append_pair(std::vector<int64_t>& words, const std::vector<int64_t>& value, int64_t key) {
    words.push_back(first_key + key);
    words.push_back(value[static_cast<size_t>(key)]);
  }
  static bool occurs(const std::vector<int64_t>& words, int64_t key) {
    return std::find(words.begin(), words.end(), key) != words.end();
  }

  int64_t keys_, values_, pairs_;
};

}  // namespace

std::vector<std::string> recall_words(int64_t vocab) {
  std::vector<std::string> words = {".", "=>"};
  for (int64_t i = 0; i < vocab - 2; ++i) words.push_back(std::to_string(i));
  std::sort(words.begin(), words.end());
  return words;
}

std::unique_ptr<Task> associative_recall(int64_t vocab, int64_t length) {
  check<ValueError>(vocab >= 4, "associative recall: vocab is ", vocab, ", must be at least 4");
  check<ValueError>(length >= 2 && length % 2 == 0, "associative recall: length is ", length,
                    ", must be even and at least 2");
  return std::make_unique<AssociativeRecall>(vocab, length);
}

}  // namespace mahia::train::synthetic
