// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"

namespace mahia {

// Reductions over `axes` (all when empty); reduced axes stay with size 1 when keepdim. Sums are taken in f32 or wider,
// in an order that depends on the shape alone. Throw IndexError for an axis out of range, ValueError for one named
// twice, DTypeError for f16, and for integers where a formula below divides.
Tensor sum(const Tensor& x, const Shape& axes = {}, bool keepdim = false);   // i64 for integers and bool
Tensor mean(const Tensor& x, const Shape& axes = {}, bool keepdim = false);  // sum / n
// sum (x - mean)^2 / (n - correction)
Tensor var(const Tensor& x, const Shape& axes = {}, double correction = 1, bool keepdim = false);
Tensor amax(const Tensor& x, const Shape& axes = {}, bool keepdim = false);  // ties share the gradient; NaN wins
Tensor amin(const Tensor& x, const Shape& axes = {}, bool keepdim = false);
Tensor logsumexp(const Tensor& x, const Shape& axes = {}, bool keepdim = false);  // log sum exp(x), without overflow
// The index (i64) of the first largest element along `axis`; the first NaN, if there is one.
Tensor argmax(const Tensor& x, int64_t axis, bool keepdim = false);

// Sums x over the axes along which `shape` was broadcast to x's shape: the gradient of broadcasting.
Tensor sum_to(const Tensor& x, const Shape& shape);

namespace kernels {
// x (outer, n, inner) contiguous -> y (outer, inner). sum / divisor has x's dtype, or i64 (divisor 1) for integers.
inline constinit Kernel<void(ConstView x, View y, double divisor)> sum{"sum"};
using Extreme = Kernel<void(ConstView x, View y)>;  // n >= 1
inline constinit Extreme amax{"amax"};
inline constinit Extreme amin{"amin"};
inline constinit Kernel<void(ConstView x, View y)> argmax{"argmax"};  // y i64
}  // namespace kernels

}  // namespace mahia
