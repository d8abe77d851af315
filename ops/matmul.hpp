// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"

namespace mahia {

// PyTorch's matmul: (.., m, k) times (.., k, n) -> (.., m, n), leading axes broadcast; a 1-D operand is a row on the
// left or a column on the right, and its axis is left out of y. Transposed views are read as they are. Sums in f32 or
// wider. Throws DTypeError unless both have one floating dtype, ShapeError where k or the leading axes disagree.
Tensor matmul(const Tensor& a, const Tensor& b);

namespace kernels {
// c (.., m, n) = start + a (.., m, k) b (.., k, n), one rank, leading axes equal. Any strides (0 for broadcast axes);
// one of c's last two is 1. `start` has c's shape, or is absent: zeros.
inline constinit Kernel<void(ConstView a, ConstView b, ConstView start, View c)> matmul{
    "matmul", [](const ConstView& a, const ConstView& b, const ConstView&, const View& c) {
      const double elements = static_cast<double>(a.numel() + b.numel() + c.numel());
      return Cost{elements * static_cast<double>(size_of(c.dtype())),
                  2 * static_cast<double>(c.numel()) * static_cast<double>(a.size(-1))};
    }};
}  // namespace kernels

}  // namespace mahia
