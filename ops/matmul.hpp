// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"

namespace mahia {

// PyTorch's matmul: (.., m, k) times (.., k, n) -> (.., m, n), leading axes broadcast; a 1-D operand is a row on the
// left or a column on the right, and its axis is left out of y. Transposed views are read as they are. Sums in f32 or
// wider. Throws DTypeError unless both have one floating dtype, ShapeError where k or the leading axes disagree.
Tensor matmul(const Tensor& a, const Tensor& b);

// Whether f32 products on CUDA may round their factors to TF32 (10 bits after the point) for speed. Off at the start.
void allow_tf32(bool on);
bool tf32_allowed();
// Whether a row of a product on CUDA has the same bits whatever rows stand beside it and in whatever order they lie in
// memory, as on a CPU: all products, but those that are widened or added to something, are then done by one kernel with
// one tile. Off at the start, since it costs time: docs/performance.md says how much.
void use_batch_invariant(bool on);
bool batch_invariant();

namespace kernels {
// c (.., m, n) = start + a (.., m, k) b (.., k, n), one rank, leading axes equal. Any strides (0 for broadcast axes);
// one of c's last two is 1. `start` has c's shape and dtype, or is absent: zeros. It may be c itself. c may be f32
// where a and b are bf16.
inline constinit Kernel<void(ConstView a, ConstView b, ConstView start, View c)> matmul{
    "matmul", [](const ConstView& a, const ConstView& b, const ConstView&, const View& c) {
      const double elements = static_cast<double>(a.numel() + b.numel() + c.numel());
      return Cost{elements * static_cast<double>(size_of(c.dtype())),
                  2 * static_cast<double>(c.numel()) * static_cast<double>(a.size(-1))};
    }};
}  // namespace kernels

}  // namespace mahia
