// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <variant>

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"
#include "signal.hpp"

namespace mahia {

// With span = dilation (K - 1) zeros in all: `same` puts half of them on each side (an odd one on the right) and keeps
// the length; `causal` puts them before the first element, so that no output sees a later input.
enum class Padding { same, causal };

struct Conv1dOptions {
  int64_t stride = 1;
  std::variant<int64_t, Padding> padding = 0;  // a number of zeros on both sides, or a rule
  int64_t dilation = 1;
  int64_t groups = 1;
};

// y[b, o, t] = bias[o] + sum over c and k of weight[o, c, k] x[b, first(o) + c, t stride + k dilation - left].
// x (B, C, T), weight (O, C/groups, K), bias (O) or undefined -> (B, O, T') with PyTorch's T'. Weight and bias may be
// f32 where x is bf16. One filter per channel (groups = C = O) at stride 1 is a kernel of its own; all else is a matrix
// product over shifted copies of x. Throws ShapeError, DTypeError, ValueError.
Tensor conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, const Conv1dOptions& options = {});

namespace kernels {
// y[b, c, t] = bias[c] + sum_k weight[c, k] x[b, c, t + k dilation - left], x zero outside [0, T). x (B, C, T) and
// y (B, C, T') with time contiguous; weight (C, K) and bias contiguous, in the dtype that is computed in.
inline constinit Kernel<void(ConstView x, ConstView weight, ConstView bias, View y, int64_t left, int64_t dilation)>
    depthwise_conv1d{
        "depthwise_conv1d", [](const ConstView& x, const ConstView& weight, const ConstView& bias, const View& y,
                               const int64_t&, const int64_t&) {
          return Cost{bytes_of({&x, &weight, &bias, &y}), 2 * static_cast<double>(y.numel() * weight.size(1))};
        }};
// All gradients in one pass over x and dy; absent ones are not computed.
inline constinit Kernel<void(ConstView x, ConstView weight, ConstView dy, View dx, View dweight, View dbias,
                             int64_t left, int64_t dilation)>
    depthwise_conv1d_grad{"depthwise_conv1d_grad",
                          [](const ConstView& x, const ConstView& weight, const ConstView& dy, const View& dx,
                             const View& dweight, const View& dbias, const int64_t&, const int64_t&) {
                            return Cost{bytes_of({&x, &weight, &dy, &dx, &dweight, &dbias}),
                                        4 * static_cast<double>(dy.numel() * weight.size(1))};
                          }};
}  // namespace kernels

}  // namespace mahia
