// SPDX-License-Identifier: Apache-2.0
#include "train/reproduce_workload.hpp"

#include <algorithm>

#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "ops/mse_loss.hpp"
#include "ops/reduce.hpp"
#include "train/data/synthetic/linear_functions.hpp"

namespace mahia::train {
namespace {

using synthetic::Baseline;
using synthetic::Examples;
using synthetic::LinearFunctions;
using synthetic::Purpose;
using synthetic::Task;

std::shared_ptr<const Task> task_of(const Recipe& r) {
  if (r.task == "associative-recall") return synthetic::associative_recall(r.vocab, r.length);
  if (r.task == "induction-head") return synthetic::induction_head(r.vocab, r.length);
  if (r.task == "mqar") return synthetic::multi_query_recall(r.vocab, r.length, r.pairs);
  if (r.task == "arithmetic") return synthetic::addition(r.digits);
  if (r.task == "majority") return synthetic::majority(r.vocab, r.length);
  return synthetic::counting(r.vocab, r.length);
}

int64_t rows_of(const Recipe& r) {
  check<ValueError>(r.batch % r.micro_batches == 0, "reproduce: batch ", r.batch, " cannot be divided into ",
                    r.micro_batches, " micro_batches");
  return r.batch / r.micro_batches;
}

nn::models::HyenaLMConfig model_of(const Recipe& r, int64_t vocab, int64_t length, int64_t real_inputs = 0) {
  return {
      .vocab = vocab, .width = r.width, .layers = r.layers, .l_max = length, .mlp = r.mlp, .real_inputs = real_inputs};
}

// Cross entropy over all targets; accuracy over the scored ones.
class TokenWorkload : public Workload {
 public:
  TokenWorkload(const Recipe& r, const std::shared_ptr<const Examples>& examples)
      : Workload(model_of(r, examples->task().sizes().vocab, examples->task().sizes().length),
                 std::make_shared<synthetic::EpochBatches>(examples, r.train_examples, rows_of(r)),
                 synthetic::test_batches(*examples, rows_of(r))),
        examples_(examples) {}

  Tensor loss(const Batch& batch) const override { return trained().loss(batch.tokens, batch.targets); }

  std::vector<Baseline> baselines() const override {
    std::vector<synthetic::Example> examples;
    for (int64_t i = 0; i < examples_->test_examples(); ++i) examples.push_back(examples_->test(i));
    return examples_->task().baselines(examples);
  }

 protected:
  Score score_of(const std::vector<Batch>& test, Device device) const override {
    const auto length = static_cast<size_t>(examples_->task().sizes().length);
    const size_t first = length - static_cast<size_t>(examples_->task().sizes().scored);
    int64_t targets = 0, right = 0, whole = 0;
    for (const Batch& batch : test) {
      const auto wanted = batch.targets.to_vector<int64_t>();
      std::vector<int64_t> rows;
      for (size_t i = 0; i < wanted.size(); ++i) {
        if (i % length >= first && wanted[i] != synthetic::ignored) rows.push_back(static_cast<int64_t>(i));
      }
      const Tensor places = Tensor::from(rows, {static_cast<int64_t>(rows.size())}, device);
      const auto guessed = argmax(trained().at_rows(batch.to(device).tokens, places), 1).to_vector<int64_t>();
      std::vector<bool> all_right(wanted.size() / length, true);
      for (size_t i = 0; i < rows.size(); ++i) {
        const auto row = static_cast<size_t>(rows[i]);
        const bool is_right = guessed[i] == wanted[row];
        right += is_right ? 1 : 0;
        if (!is_right) all_right[row / length] = false;
      }
      targets += static_cast<int64_t>(rows.size());
      whole += std::count(all_right.begin(), all_right.end(), true);
    }
    return {static_cast<double>(right) / static_cast<double>(targets),
            static_cast<double>(whole) / static_cast<double>(examples_->test_examples())};
  }

 private:
  std::shared_ptr<const Examples> examples_;
};

// Squared error of the answers to all pairs; the score is that at the last pair, divided by n.
class LinearWorkload : public Workload {
 public:
  LinearWorkload(const Recipe& r, uint64_t seed)
      : Workload(model_of(r, 1, LinearFunctions(r.dimension, seed, Purpose::test, 1).length(), r.dimension + 1),
                 std::make_shared<LinearFunctions>(r.dimension, seed, Purpose::training, rows_of(r)),
                 {LinearFunctions(r.dimension, seed, Purpose::test, r.test_examples).at(0)}),
        dimension_(static_cast<double>(r.dimension)) {}

  Tensor loss(const Batch& batch) const override {
    return mse_loss(synthetic::answers_in(trained()(batch.tokens)), batch.targets);
  }

  std::vector<Baseline> baselines() const override {
    return {{"zero", 1}, {"least squares on the pairs seen", synthetic::least_squares_error(test().front())}};
  }

 protected:
  Score score_of(const std::vector<Batch>& test, Device device) const override {
    const Tensor outputs = synthetic::answers_in(trained()(test.front().to(device).tokens));
    const auto guessed = outputs.to_vector<double>(), wanted = test.front().targets.to_vector<double>();
    const auto pairs = static_cast<size_t>(outputs.size(1));
    double error = 0;
    for (size_t i = pairs - 1; i < wanted.size(); i += pairs)
      error += (guessed[i] - wanted[i]) * (guessed[i] - wanted[i]);
    return {error / (dimension_ * static_cast<double>(outputs.size(0))), 0};
  }

 private:
  double dimension_;
};

}  // namespace

void validate(const Recipe& r) {
  rows_of(r);
  if (!less_is_better(r)) task_of(r);
}

std::unique_ptr<Workload> Workload::make(const Recipe& r, uint64_t seed) {
  if (less_is_better(r)) return std::make_unique<LinearWorkload>(r, seed);
  return std::make_unique<TokenWorkload>(r, std::make_shared<const Examples>(task_of(r), seed, r.test_examples));
}

Score Workload::score() {
  const NoGrad no_grad;
  const bool training = model_.training();
  model_.eval();
  const Score score = score_of(test_, model_.parameters().front().device());
  model_.train(training);
  return score;
}

bool less_is_better(const Recipe& recipe) { return recipe.task == "linear-functions"; }

}  // namespace mahia::train
