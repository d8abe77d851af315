// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"

namespace mahia {

// Sums are taken in f32 or wider. weight and bias may be undefined (1 and 0), or f32 with a bf16 x. All throw
// DTypeError and ShapeError for operands that do not fit.

// y = (x - mean) / sqrt(var + eps) * weight + bias, mean and biased variance over the last axis; weight, bias (D).
Tensor layer_norm(const Tensor& x, const Tensor& weight = {}, const Tensor& bias = {}, double eps = 1e-5);
// y = x / sqrt(mean(x^2) + eps) * weight over the last axis; weight (D). eps is by default that of the dtype the sums
// are in, 2^-23 or 2^-52, as in PyTorch.
Tensor rms_norm(const Tensor& x, const Tensor& weight = {}, std::optional<double> eps = {});

struct BatchNorm {
  Tensor y, running_mean, running_var;
};
// As layer_norm, but per channel C over all other axes of x (N, C) or (N, C, T); weight, bias (C). When training, mean
// and variance are the batch's, and the running statistics (f32, f64 with an f64 x; or undefined) come back moved by
// `momentum` towards them, the variance unbiased; else y is made with the running statistics, which come back as they
// are. Throws ValueError for a single value per channel when training, as PyTorch.
BatchNorm batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& running_mean,
                     const Tensor& running_var, bool training, double momentum = 0.1, double eps = 1e-5);

namespace kernels {
// x (rows, D) contiguous; mean and rstd (rows) in f32 or wider are written; without `mean` nothing is subtracted.
inline constinit Kernel<void(ConstView x, ConstView weight, ConstView bias, double eps, View y, View mean, View rstd)>
    layer_norm{"layer_norm"};
inline constinit Kernel<void(ConstView x, ConstView dy, ConstView weight, ConstView mean, ConstView rstd, View dx,
                             View dweight, View dbias)>
    layer_norm_grad{"layer_norm_grad"};
// x (N, C, T) contiguous -> mean and biased variance (C).
inline constinit Kernel<void(ConstView x, View mean, View var)> batch_norm_stats{"batch_norm_stats"};
inline constinit Kernel<void(ConstView x, ConstView weight, ConstView bias, ConstView mean, ConstView var, double eps,
                             View y)>
    batch_norm{"batch_norm"};
// With `training` mean and var depend on x.
inline constinit Kernel<void(ConstView x, ConstView dy, ConstView weight, ConstView mean, ConstView var, double eps,
                             bool training, View dx, View dweight, View dbias)>
    batch_norm_grad{"batch_norm_grad"};
// moved = (1 - momentum) running + momentum scale batch.
inline constinit Kernel<void(ConstView running, ConstView batch, double momentum, double scale, View moved)>
    move_average{"move_average"};
}  // namespace kernels

}  // namespace mahia
