// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../batch.hpp"
#include "draws.hpp"

namespace mahia::train::synthetic {

// In-context linear functions (Garg et al. 2022): w ~ N(0, I_n) per example, 2n + 1 pairs x_i ~ N(0, I), y_i = w x_i,
// as alternating vectors of width n + 1: (x_i, 0), then (0, y_i). The answer y_i is asked for at x_i. Every training
// batch is a fresh one.
class LinearFunctions : public BatchSource {
 public:
  // Throws ValueError unless dimension n and rows are at least 1.
  LinearFunctions(int64_t dimension, uint64_t seed, Purpose purpose, int64_t rows);
  Batch at(int64_t index) const override;  // tokens (rows, T, n + 1) f32, targets (rows, 2n + 1) f32

  int64_t pairs() const { return 2 * dimension_ + 1; }
  int64_t length() const { return 2 * pairs(); }  // T

 private:
  int64_t dimension_;
  uint64_t seed_;
  Purpose purpose_;
  int64_t rows_;
};

// The outputs (B, T, 1) at the places of x_i, (B, 2n + 1).
Tensor answers_in(const Tensor& outputs);

// Squared error of the answer to the last pair divided by n, mean over the batch: least squares on the pairs before it.
double least_squares_error(const Batch& batch);

}  // namespace mahia::train::synthetic
