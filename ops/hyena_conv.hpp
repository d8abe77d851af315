// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"
#include "long_conv.hpp"

namespace mahia {

// A signal x (B, D, T) as it is, or, with a weight, after the causal depthwise convolution of Hyena's short filter:
//   x'[b, d, t] = bias[d] + sum_k weight[d, k] x[b, d, t + k - (K - 1)], x zero before its first element,
// which is conv1d with Padding::causal. weight (D, K) and bias (D) may be f32 where x is bf16. A bias needs a weight.
struct ShortFiltered {
  Tensor x = {}, weight = {}, bias = {};
};

struct HyenaConvOptions {
  Tensor skip = {};                // (D): weight of the input itself, added to the filter's first tap
  ShortFiltered gate_before = {};  // multiplies v'; absent: 1
  ShortFiltered gate_after = {};   // multiplies the result; absent: 1
  ConvAlgorithm algorithm = ConvAlgorithm::automatic;
};

// One order of the Hyena recurrence (Poli et al. 2023, equation 4) without short-filtered signals in memory: with
// u = v' gate_before',
//   y[b, d, t] = gate_after'[b, d, t] (sum_{s <= t} h[d, s] u[b, d, t - s] + skip[d] u[b, d, t]).
// All x (B, D, T), h (D, K) for any T and any K >= 1; y has v's shape, dtype and order of batch and channel in memory.
// y and the gradients of all x have the bits of conv1d followed by long_conv. Throws ShapeError, DTypeError.
Tensor hyena_conv(const ShortFiltered& v, const Tensor& h, const HyenaConvOptions& options = {});

namespace kernels {
Cost cost_of_hyena_conv(const std::span<const ConstView>& v, const std::span<const ConstView>& gate_before,
                        const std::span<const ConstView>& gate_after, const ConstView& h, const ConstView& skip,
                        const View& y, const View& ungated, const ConvAlgorithm& algorithm);
Cost cost_of_hyena_conv_grad(const std::span<const ConstView>& v, const std::span<const ConstView>& gate_before,
                             const std::span<const ConstView>& gate_after, const ConstView& h, const ConstView& skip,
                             const ConstView& ungated, const ConstView& dy, const std::span<const View>& dv,
                             const std::span<const View>& dgate_before, const std::span<const View>& dgate_after,
                             const View& dh, const ConvAlgorithm& algorithm);
// Each of v, gate_before and gate_after is three views x, weight and bias, undefined where absent. Signals (B, D, T)
// of one dtype with time contiguous, each with its own strides of batch and channel; weights (D, K), biases, h and
// skip contiguous in the dtype they are computed in. A short-filtered number is rounded to the signals' dtype before
// it is used. `ungated`, if wanted, receives the result before gate_after'. `algorithm` is never automatic.
inline constinit Kernel<void(std::span<const ConstView> v, std::span<const ConstView> gate_before,
                             std::span<const ConstView> gate_after, ConstView h, ConstView skip, View y, View ungated,
                             ConvAlgorithm algorithm)>
    hyena_conv{"hyena_conv", cost_of_hyena_conv};
// dv, dgate_before and dgate_after are three views each, dx, dweight and dbias, undefined where not wanted. The
// gradient of a short-filtered row is rounded to the signals' dtype before it goes through the short filter. dh (D, K')
// as in long_conv_grad: that of skip is dh[:, 0].
inline constinit Kernel<void(std::span<const ConstView> v, std::span<const ConstView> gate_before,
                             std::span<const ConstView> gate_after, ConstView h, ConstView skip, ConstView ungated,
                             ConstView dy, std::span<const View> dv, std::span<const View> dgate_before,
                             std::span<const View> dgate_after, View dh, ConvAlgorithm algorithm)>
    hyena_conv_grad{"hyena_conv_grad", cost_of_hyena_conv_grad};
}  // namespace kernels

}  // namespace mahia
