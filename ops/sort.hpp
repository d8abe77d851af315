// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"

namespace mahia {

struct Sorted {
  Tensor values;   // x's dtype; carries the gradient
  Tensor indices;  // i64, into x along the axis
};

// The k largest values along `axis` in descending order, ties by the lowest index; NaN counts as the largest, as in
// PyTorch. Throws ValueError for k outside [0, size], IndexError for a bad axis.
Sorted topk(const Tensor& x, int64_t k, int64_t axis = -1);
// Stable; NaN last when ascending and first when descending, as in PyTorch.
Sorted sort(const Tensor& x, int64_t axis = -1, bool descending = false);
Tensor argsort(const Tensor& x, int64_t axis = -1, bool descending = false);

namespace kernels {
// indices (rows, k) i64 = the first k of each row of x (rows, n) in the stable order; contiguous.
inline constinit Kernel<void(ConstView x, View indices, bool descending)> sort{"sort"};
}  // namespace kernels

}  // namespace mahia
