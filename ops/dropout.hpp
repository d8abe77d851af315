// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/random.hpp"
#include "../core/tensor.hpp"

namespace mahia {

// x / (1 - p) where the element's uniform number of `call` is at least p, else 0. No mask is stored: backward draws
// the same numbers again. Throws ValueError unless 0 <= p <= 1, DTypeError unless x is floating.
Tensor dropout(const Tensor& x, double p, const RandomCall& call);

namespace kernels {
// Contiguous views of equal shape and dtype.
inline constinit Kernel<void(ConstView x, View y, double p, RandomCall call)> dropout{"dropout"};
}  // namespace kernels

}  // namespace mahia
