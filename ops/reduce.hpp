// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"

namespace mahia {

// Sum over `axes` (all when empty); reduced axes stay with size 1 when keepdim. Sums are taken in f32 or wider in an
// order that depends on the shape alone.
Tensor sum(const Tensor& x, const Shape& axes = {}, bool keepdim = false);
// Sums x over the axes along which `shape` was broadcast to x's shape: the gradient of broadcasting.
Tensor sum_to(const Tensor& x, const Shape& shape);

namespace kernels {
// x (outer, n, inner) contiguous -> y (outer, inner).
inline constinit Kernel<void(ConstView x, View y)> sum{"sum"};
}  // namespace kernels

}  // namespace mahia
