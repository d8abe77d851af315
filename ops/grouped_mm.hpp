// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"

namespace mahia {

// One linear map per group of rows: y[i] = weight[e] x[i] + bias[e] for offsets[e] <= i < offsets[e + 1].
// x (N, in), weight (E, out, in), offsets i32 (E + 1) ascending from 0 to N, on the device, bias (E, out) or undefined
// -> y (N, out). An empty group gets a gradient of zeros. A row has the same bits wherever it stands in its group.
// Throws DTypeError, ShapeError for operands that do not fit, IndexError for offsets that do not ascend from 0 to N.
Tensor grouped_mm(const Tensor& x, const Tensor& weight, const Tensor& offsets, const Tensor& bias = {});

namespace kernels {
// x, weight and y of any strides, y's last being 1; bias contiguous or absent.
inline constinit Kernel<void(ConstView x, ConstView weight, ConstView offsets, ConstView bias, View y)> grouped_mm{
    "grouped_mm", [](const ConstView& x, const ConstView& weight, const ConstView&, const ConstView&, const View& y) {
      const double elements = static_cast<double>(x.numel() + weight.numel() + y.numel());
      return Cost{elements * static_cast<double>(size_of(y.dtype())),
                  2 * static_cast<double>(y.numel()) * static_cast<double>(x.size(1))};
    }};
// dweight[e] = dy[group]^T x[group], dbias[e] = sum of dy[group]; contiguous views, each output may be absent.
inline constinit Kernel<void(ConstView x, ConstView dy, ConstView offsets, View dweight, View dbias)>
    grouped_mm_weight_grad{
        "grouped_mm_weight_grad",
        [](const ConstView& x, const ConstView& dy, const ConstView&, const View& dweight, const View& dbias) {
          const double elements = static_cast<double>(x.numel() + dy.numel() + dweight.numel() + dbias.numel());
          return Cost{elements * static_cast<double>(size_of(dy.dtype())),
                      2 * static_cast<double>(dy.numel()) * static_cast<double>(x.size(1))};
        }};
}  // namespace kernels

}  // namespace mahia
