// SPDX-License-Identifier: Apache-2.0
#include "train/data/synthetic/task.hpp"

#include <algorithm>
#include <map>
#include <numeric>

#include "core/factory.hpp"

namespace mahia::train::synthetic {
namespace {

// FNV-1a over whole words, finished with the mixer of SplitMix64.
uint64_t digest(const std::vector<int64_t>& tokens) {
  uint64_t state = 0xcbf29ce484222325u;
  for (const int64_t token : tokens) {
    state = (state ^ static_cast<uint64_t>(token)) * 0x9E3779B97F4A7C15u;
    state ^= state >> 29;
  }
  state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
  state = (state ^ (state >> 27)) * 0x94d049bb133111ebu;
  return state ^ (state >> 31);
}

// The numbers 0 ... count - 1 in the order of one epoch.
std::vector<int64_t> order_of(uint64_t seed, int64_t epoch, int64_t count) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  Draws draws(seed, Purpose::order, epoch);
  for (size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[static_cast<size_t>(draws.below(static_cast<int64_t>(i)))]);
  }
  return order;
}

// fn(example, position, target) for every scored target.
template <class Fn>
void for_scored(const Task& task, const std::vector<Example>& examples, Fn&& fn) {
  const auto first = static_cast<size_t>(task.sizes().length - task.sizes().scored);
  for (const Example& e : examples) {
    for (size_t t = first; t < e.targets.size(); ++t) {
      if (e.targets[t] != ignored) fn(e, t, e.targets[t]);
    }
  }
}

// How often each value stands in the prompt, up to and with position t.
std::map<int64_t, double> values_of(const Example& e, size_t t, int64_t first, int64_t last) {
  std::map<int64_t, double> counts;
  for (size_t i = 0; i <= t; ++i) {
    if (e.tokens[i] >= first && e.tokens[i] <= last) ++counts[e.tokens[i]];
  }
  return counts;
}

}  // namespace

Example next_token_example(std::vector<int64_t> words) {
  std::vector<int64_t> targets(words.begin() + 1, words.end());
  words.pop_back();
  return {std::move(words), std::move(targets)};
}

std::vector<Baseline> Task::baselines(const std::vector<Example>& examples) const {
  std::map<int64_t, double> answers;
  double total = 0, most = 0;
  for_scored(*this, examples, [&](const Example&, size_t, int64_t target) {
    most = std::max(most, ++answers[target]);
    ++total;
  });
  return {{"chance", sizes_.chance}, {"the most frequent answer", most / total}};
}

Baseline random_value_of_prompt(const Task& task, const std::vector<Example>& examples, int64_t first, int64_t last) {
  double right = 0, total = 0;
  for_scored(task, examples, [&](const Example& e, size_t t, int64_t target) {
    double values = 0;
    auto counts = values_of(e, t, first, last);
    for (const auto& [value, count] : counts) values += count;
    right += counts[target] / values;
    ++total;
  });
  return {"a value of the prompt", right / total};
}

Baseline frequent_value_of_prompt(const Task& task, const std::vector<Example>& examples, int64_t first, int64_t last) {
  double right = 0, total = 0;
  for_scored(task, examples, [&](const Example& e, size_t t, int64_t target) {
    double most = 0, ties = 0;
    auto counts = values_of(e, t, first, last);
    for (const auto& [value, count] : counts) most = std::max(most, count);
    for (const auto& [value, count] : counts) ties += count == most ? 1 : 0;
    right += counts[target] == most ? 1 / ties : 0;
    ++total;
  });
  return {"the most frequent value of the prompt", right / total};
}

Examples::Examples(std::shared_ptr<const Task> task, uint64_t seed, int64_t test_examples)
    : task_(std::move(task)), seed_(seed) {
  check<ValueError>(test_examples >= 1, "synthetic: test_examples is ", test_examples, ", must be at least 1");
  for (int64_t number = 0; this->test_examples() < test_examples; ++number) {
    check<ValueError>(number < 100 * test_examples, "synthetic: the task has too few different examples for ",
                      test_examples, " test examples");
    Draws draws(seed_, Purpose::test, number);
    if (test_seen_.insert(digest(task_->draw(draws).tokens)).second) test_numbers_.push_back(number);
  }
}

Example Examples::training(int64_t number) const {
  Draws draws(seed_, Purpose::training, number);
  for (int attempt = 0; attempt < 1000; ++attempt) {
    Example e = task_->draw(draws);
    if (!test_seen_.contains(digest(e.tokens))) return e;
  }
  fail<ValueError>("synthetic: the test examples leave none to train on");
}

Example Examples::test(int64_t index) const {
  Draws draws(seed_, Purpose::test, test_numbers_[static_cast<size_t>(index)]);
  return task_->draw(draws);
}

Batch to_batch(const std::vector<Example>& examples) {
  const Shape shape = {static_cast<int64_t>(examples.size()), static_cast<int64_t>(examples.at(0).tokens.size())};
  const Batch batch{empty(shape, DType::i64), empty(shape, DType::i64)};
  int64_t* tokens = batch.tokens.output_view().data<int64_t>();
  int64_t* targets = batch.targets.output_view().data<int64_t>();
  for (const Example& e : examples) {
    tokens = std::copy(e.tokens.begin(), e.tokens.end(), tokens);
    targets = std::copy(e.targets.begin(), e.targets.end(), targets);
  }
  return batch;
}

std::vector<Batch> test_batches(const Examples& examples, int64_t rows) {
  std::vector<Batch> batches;
  for (int64_t first = 0; first < examples.test_examples(); first += rows) {
    std::vector<Example> some;
    const int64_t end = std::min(first + rows, examples.test_examples());
    for (int64_t i = first; i < end; ++i) some.push_back(examples.test(i));
    batches.push_back(to_batch(some));
  }
  return batches;
}

EpochBatches::EpochBatches(std::shared_ptr<const Examples> examples, int64_t count, int64_t rows)
    : examples_(std::move(examples)), count_(count), rows_(rows) {
  check<ValueError>(count >= 1 && rows >= 1, "EpochBatches: count ", count, " and rows ", rows, " must be at least 1");
}

Batch EpochBatches::at(int64_t index) const {
  std::vector<Example> some;
  std::vector<int64_t> order;
  for (int64_t place = index * rows_; place < (index + 1) * rows_; ++place) {
    if (order.empty() || place % count_ == 0) order = order_of(examples_->seed(), place / count_, count_);
    some.push_back(examples_->training(order[static_cast<size_t>(place % count_)]));
  }
  return to_batch(some);
}

}  // namespace mahia::train::synthetic
