// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "../batch.hpp"
#include "draws.hpp"

namespace mahia::train::synthetic {

inline constexpr int64_t ignored = -100;  // a target that counts for nothing, as in CrossEntropyOptions

// T token ids and for each the id to be predicted there, or `ignored`.
struct Example {
  std::vector<int64_t> tokens, targets;
};
// Each word predicts the next one: n words make n - 1 tokens.
Example next_token_example(std::vector<int64_t> words);

// A score to compare with: what somebody reaches who has not learned the task.
struct Baseline {
  std::string name;
  double score;
};

// A synthetic task over sequences of tokens. The recipes are in docs/reproduce.md.
class Task {
 public:
  struct Sizes {
    int64_t vocab;   // V
    int64_t length;  // T: tokens of an example
    int64_t scored;  // accuracy is over the targets at the last so many positions
    double chance;   // accuracy of guessing among the possible answers
  };
  explicit Task(const Sizes& sizes) : sizes_(sizes) {}
  virtual ~Task() = default;
  const Sizes& sizes() const { return sizes_; }
  virtual Example draw(Draws& draws) const = 0;
  // Chance, the most frequent answer and, where the answer stands in the prompt, guesses from there.
  virtual std::vector<Baseline> baselines(const std::vector<Example>& examples) const;

 private:
  Sizes sizes_;
};

// Throw ValueError for sizes that the recipe cannot have. V vocabulary, L length of the prompt.
std::unique_ptr<Task> associative_recall(int64_t vocab, int64_t length);
std::unique_ptr<Task> induction_head(int64_t vocab, int64_t length);
std::unique_ptr<Task> multi_query_recall(int64_t vocab, int64_t length, int64_t pairs);
std::unique_ptr<Task> addition(int64_t digits);
std::unique_ptr<Task> majority(int64_t vocab, int64_t length);
std::unique_ptr<Task> counting(int64_t vocab, int64_t length);

// The vocabulary of recall and induction, sorted as strings: ".", "0" ... in lexical order, "=>".
std::vector<std::string> recall_words(int64_t vocab);

// Accuracy of guessing a value of the prompt, a token in [first, last]: one of its places at random, or the most
// frequent one, ties at random.
Baseline random_value_of_prompt(const Task& task, const std::vector<Example>& examples, int64_t first, int64_t last);
Baseline frequent_value_of_prompt(const Task& task, const std::vector<Example>& examples, int64_t first, int64_t last);

// The examples of a task: pure functions of seed and number. Test examples differ from each other and from all training
// ones, by their tokens.
class Examples {
 public:
  // Throws ValueError when the task has too few different examples.
  Examples(std::shared_ptr<const Task> task, uint64_t seed, int64_t test_examples);
  const Task& task() const { return *task_; }
  uint64_t seed() const { return seed_; }
  Example training(int64_t number) const;
  int64_t test_examples() const { return static_cast<int64_t>(test_numbers_.size()); }
  Example test(int64_t index) const;

 private:
  std::shared_ptr<const Task> task_;
  uint64_t seed_;
  std::vector<int64_t> test_numbers_;       // of the streams whose examples were new
  std::unordered_set<uint64_t> test_seen_;  // digests of their tokens
};

// Rows of tokens and targets, both (B, T) i64.
Batch to_batch(const std::vector<Example>& examples);
// The test examples in batches of at most `rows`.
std::vector<Batch> test_batches(const Examples& examples, int64_t rows);

// Training batches of `rows` examples: the same `count` ones over and over, each time in another order. A batch may
// span two epochs.
class EpochBatches : public BatchSource {
 public:
  EpochBatches(std::shared_ptr<const Examples> examples, int64_t count, int64_t rows);
  Batch at(int64_t index) const override;

 private:
  std::shared_ptr<const Examples> examples_;
  int64_t count_, rows_;
};

}  // namespace mahia::train::synthetic
