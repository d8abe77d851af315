// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"
#include "signal.hpp"

namespace mahia {

// How a long convolution is computed; docs/hyena.md, "Algorithms", has the costs and when to use which.
enum class ConvAlgorithm : uint8_t {
  automatic,  // fft or direct, whichever is faster for the lengths: see resolve
  fft,        // one transform of the whole row: O(T log T); round-off of later inputs reaches earlier outputs
  dyadic,     // transforms of finished blocks alone: O(T log^2 T); outputs up to t do not depend on what comes after t
  direct,     // sums in the order of time: O(T K); as causal as dyadic
};
const char* name_of(ConvAlgorithm algorithm);

// The algorithm that `wanted` means for signals of `time` elements and filters of `taps`: itself, or for `automatic`
// direct up to a measured number of taps and fft beyond. Depends on the arguments alone.
ConvAlgorithm resolve(ConvAlgorithm wanted, Device device, int64_t time, int64_t taps);

// Tensors may be absent.
struct LongConvOptions {
  Tensor skip = {};         // (D): weight of the input itself, added to the filter's first tap
  Tensor gate_before = {};  // (B, D, T): multiplies u
  Tensor gate_after = {};   // (B, D, T): multiplies the result
  ConvAlgorithm algorithm = ConvAlgorithm::automatic;
};

// The gated causal convolution of the Hyena operator (Poli et al. 2023, equation 4): with v = u * gate_before,
//   y[b, d, t] = gate_after[b, d, t] * (sum_{s <= t} h[d, s] v[b, d, t - s] + skip[d] v[b, d, t]).
// u (B, D, T), h (D, K) for any T and any K >= 1; y has u's shape, dtype and order of batch and channel in memory.
// Computed in f32 or wider, never circular; h and skip may be f32 where u is bf16. Throws ShapeError, DTypeError.
Tensor long_conv(const Tensor& u, const Tensor& h, const LongConvOptions& options = {});

// The tiles of `dyadic`. Outputs [p, p + base) get the inputs of their own block by direct sums. Before them, at each
// p = base, 2 base, ..., a tile of n inputs [p - n, p) is added to the outputs [p, p + n), where n is the largest power
// of two that divides p, at most the smallest that reaches over all taps. So each pair of input and output that a tap
// joins meets once, an output's sums come in the order largest tile, smaller tiles, own block, and no tile depends on
// the length of the signal.
struct DyadicTiling {
  static constexpr int64_t base = 64;
  int64_t taps, time;

  int64_t largest() const;             // the largest n of any tile before `time`, at least base
  int64_t at(int64_t position) const;  // n of the tile at a multiple of base; 0 where there is none

  // Operations for one row: of a tile, direct at the smallest size and two transforms above, and of all of them.
  static double tile_flops(int64_t inputs);
  double flops() const;
};

namespace kernels {
Cost cost_of_long_conv(const ConstView& u, const ConstView& h, const ConstView& skip, const ConstView& gate_before,
                       const ConstView& gate_after, const View& y, const View& ungated, const ConvAlgorithm& algorithm);
Cost cost_of_long_conv_grad(const ConstView& u, const ConstView& h, const ConstView& skip, const ConstView& gate_before,
                            const ConstView& gate_after, const ConstView& ungated, const ConstView& dy, const View& du,
                            const View& dh, const View& dgate_before, const View& dgate_after,
                            const ConvAlgorithm& algorithm);
// Signals (B, D, T) of one dtype with time contiguous; filters and skip in the dtype they are computed in, contiguous.
// `ungated`, if wanted, receives the result before gate_after, which the gradient of gate_after needs. dh (D, K') gets
// the first K' taps' gradients, for any K' >= 1; that of skip is dh[:, 0]. `algorithm` is never automatic.
inline constinit Kernel<void(ConstView u, ConstView h, ConstView skip, ConstView gate_before, ConstView gate_after,
                             View y, View ungated, ConvAlgorithm algorithm)>
    long_conv{"long_conv", cost_of_long_conv};
inline constinit Kernel<void(ConstView u, ConstView h, ConstView skip, ConstView gate_before, ConstView gate_after,
                             ConstView ungated, ConstView dy, View du, View dh, View dgate_before, View dgate_after,
                             ConvAlgorithm algorithm)>
    long_conv_grad{"long_conv_grad", cost_of_long_conv_grad};
}  // namespace kernels

}  // namespace mahia
