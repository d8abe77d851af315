// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"

namespace mahia {

// What becomes of a loss per element or row: it stays, or all are averaged or summed.
enum class Reduction { none, mean, sum };

// (x - target)^2, reduced: shape [] or, for `none`, that of x; f32 for bf16 operands, else their dtype. The mean of
// nothing is NaN. Throws DTypeError unless both have one floating dtype, ShapeError unless they have one shape.
Tensor mse_loss(const Tensor& x, const Tensor& target, Reduction reduction = Reduction::mean);

namespace kernels {
// x, target contiguous -> y (one element, or as x).
inline constinit Kernel<void(ConstView x, ConstView target, Reduction reduction, View y)> mse_loss{"mse_loss"};
// dx = sign 2 (x - target) dy, divided by the number of elements for the mean.
inline constinit Kernel<void(ConstView x, ConstView target, ConstView dy, Reduction reduction, double sign, View dx)>
    mse_loss_grad{"mse_loss_grad"};
}  // namespace kernels

}  // namespace mahia
