// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"

namespace mahia {

// y_t = x_0 + ... + x_t along `axis`. Floating x keeps its dtype (summed in f32 or wider), integers and bool give i64.
// Throws IndexError for a bad axis, DTypeError for f16.
Tensor cumsum(const Tensor& x, int64_t axis);

namespace kernels {
// x (outer, n, inner) -> y, both contiguous, f64, f32, bf16 or i64; from the end when reversed.
inline constinit Kernel<void(ConstView x, View y, bool reversed)> cumsum{"cumsum"};
}  // namespace kernels

}  // namespace mahia
