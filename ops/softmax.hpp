// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"

namespace mahia {

// y_i = exp(x_i - max x) / sum_j exp(x_j - max x) along `axis`. y has the shape and dtype of x; sums in f32 or wider.
// Throws DTypeError unless x is floating, IndexError for a bad axis.
Tensor softmax(const Tensor& x, int64_t axis = -1);
// x_i - max x - log sum_j exp(x_j - max x).
Tensor log_softmax(const Tensor& x, int64_t axis = -1);

namespace kernels {
// Over the last axis of contiguous views (rows, n).
inline constinit Kernel<void(ConstView x, View y)> softmax{"softmax"};
inline constinit Kernel<void(ConstView y, ConstView dy, View dx)> softmax_grad{"softmax_grad"};
inline constinit Kernel<void(ConstView x, View y)> log_softmax{"log_softmax"};
inline constinit Kernel<void(ConstView y, ConstView dy, View dx)> log_softmax_grad{"log_softmax_grad"};
}  // namespace kernels

}  // namespace mahia
