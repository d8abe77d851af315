// SPDX-License-Identifier: Apache-2.0
#include "train/data/synthetic/linear_functions.hpp"

#include <utility>
#include <vector>

#include "core/factory.hpp"
#include "ops/shape.hpp"

namespace mahia::train::synthetic {
namespace {

// Solves a x = b for a positive definite (n, n) a, in place in b: Gaussian elimination, no pivots needed.
void solve(std::vector<double>& a, std::vector<double>& b) {
  const size_t n = b.size();
  for (size_t k = 0; k < n; ++k) {
    for (size_t i = k + 1; i < n; ++i) {
      const double factor = a[i * n + k] / a[k * n + k];
      for (size_t j = k; j < n; ++j) a[i * n + j] -= factor * a[k * n + j];
      b[i] -= factor * b[k];
    }
  }
  for (size_t k = n; k-- > 0;) {
    for (size_t j = k + 1; j < n; ++j) b[k] -= a[k * n + j] * b[j];
    b[k] /= a[k * n + k];
  }
}

}  // namespace

LinearFunctions::LinearFunctions(int64_t dimension, uint64_t seed, Purpose purpose, int64_t rows)
    : dimension_(dimension), seed_(seed), purpose_(purpose), rows_(rows) {
  check<ValueError>(dimension >= 1 && rows >= 1, "linear functions: dimension ", dimension, " and rows ", rows,
                    " must be at least 1");
}

Batch LinearFunctions::at(int64_t index) const {
  const auto n = static_cast<size_t>(dimension_);
  const Batch batch{zeros({rows_, length(), dimension_ + 1}), empty({rows_, pairs()})};
  float* to = batch.tokens.output_view().data<float>();
  float* answer = batch.targets.output_view().data<float>();
  for (int64_t row = 0; row < rows_; ++row) {
    Draws draws(seed_, purpose_, index * rows_ + row);
    std::vector<double> w(n);
    for (double& v : w) v = draws.normal();
    for (int64_t pair = 0; pair < pairs(); ++pair, to += 2 * (n + 1)) {
      double y = 0;
      for (size_t i = 0; i < n; ++i) {
        to[i] = static_cast<float>(draws.normal());
        y += w[i] * static_cast<double>(to[i]);
      }
      *answer++ = to[n + 1 + n] = static_cast<float>(y);
    }
  }
  return batch;
}

Tensor answers_in(const Tensor& outputs) {
  const int64_t rows = outputs.size(0), pairs = outputs.size(1) / 2;
  return contiguous(select(reshape(outputs, {rows, pairs, 2}), 2, 0));
}

double least_squares_error(const Batch& batch) {
  const auto inputs = batch.tokens.to_vector<double>(), answers = batch.targets.to_vector<double>();
  const auto n = static_cast<size_t>(batch.tokens.size(2)) - 1, pairs = static_cast<size_t>(batch.targets.size(1));
  const auto rows = static_cast<size_t>(batch.tokens.size(0));
  double error = 0;
  for (size_t row = 0; row < rows; ++row) {
    const auto x = [&](size_t pair, size_t i) { return inputs[(row * pairs + pair) * 2 * (n + 1) + i]; };
    std::vector<double> products(n * n), w(n);
    for (size_t pair = 0; pair + 1 < pairs; ++pair) {
      for (size_t i = 0; i < n; ++i) {
        for (size_t j = 0; j < n; ++j) products[i * n + j] += x(pair, i) * x(pair, j);
        w[i] += x(pair, i) * answers[row * pairs + pair];
      }
    }
    solve(products, w);
    double left = answers[row * pairs + pairs - 1];
    for (size_t i = 0; i < n; ++i) left -= w[i] * x(pairs - 1, i);
    error += left * left;
  }
  return error / static_cast<double>(rows * n);
}

}  // namespace mahia::train::synthetic
