// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/tensor.hpp"

namespace mahia {

// y = x weight^T + bias: x (.., in), weight (out, in), bias (out) or undefined -> y (.., out).
// Throws DTypeError unless all have one floating dtype, ShapeError where they disagree on `in` or `out`.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});
// The same from tokens to channels, without a transposing copy: x (B, T, in) -> y (out, B, T), contiguous.
Tensor linear_to_channels(const Tensor& x, const Tensor& weight, const Tensor& bias = {});
// And back: x (in, B, T) -> y (B, T, out), contiguous.
Tensor linear_from_channels(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

}  // namespace mahia
