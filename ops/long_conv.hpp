// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"
#include "signal.hpp"

namespace mahia {

// All may be absent.
struct LongConvOptions {
  Tensor skip = {};         // (D): weight of the input itself, added to the filter's first tap
  Tensor gate_before = {};  // (B, D, T): multiplies u
  Tensor gate_after = {};   // (B, D, T): multiplies the result
};

// The gated causal convolution of the Hyena operator (Poli et al. 2023, equation 4): with v = u * gate_before,
//   y[b, d, t] = gate_after[b, d, t] * (sum_{s <= t} h[d, s] v[b, d, t - s] + skip[d] v[b, d, t]).
// u (B, D, T), h (D, K) for any T and any K >= 1; y has u's shape, dtype and order of batch and channel in memory.
// Computed with Fourier transforms in f32 or wider, never circular; h and skip may be f32 where u is bf16. Throws
// ShapeError, DTypeError.
Tensor long_conv(const Tensor& u, const Tensor& h, const LongConvOptions& options = {});

namespace kernels {
// Signals (B, D, T) of one dtype with time contiguous; filters and skip in the dtype they are computed in, contiguous.
// `ungated`, if wanted, receives the result before gate_after, which the gradient of gate_after needs. dh (D, K') gets
// the first K' taps' gradients, for any K' >= 1; that of skip is dh[:, 0].
inline constinit Kernel<void(ConstView u, ConstView h, ConstView skip, ConstView gate_before, ConstView gate_after,
                             View y, View ungated)>
    long_conv{"long_conv", [](const ConstView& u, const auto&... others) {
                return Cost{bytes_of({&u, &others...}), fft_flops((2 * u.size(0) + 1) * u.size(1), u.size(2))};
              }};
inline constinit Kernel<void(ConstView u, ConstView h, ConstView skip, ConstView gate_before, ConstView gate_after,
                             ConstView ungated, ConstView dy, View du, View dh, View dgate_before, View dgate_after)>
    long_conv_grad{"long_conv_grad", [](const ConstView& u, const auto&... others) {
                     return Cost{bytes_of({&u, &others...}), fft_flops((3 * u.size(0) + 2) * u.size(1), u.size(2))};
                   }};
}  // namespace kernels

}  // namespace mahia
