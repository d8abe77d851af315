// SPDX-License-Identifier: Apache-2.0
#include "ops/hyena_conv.hpp"

#include "backends/cpu/long_conv_rows.hpp"

// The forms of long_conv, reading their rows through short filters. A filtered row lives in scratch while its row is
// worked off, so of each signal only x comes from memory.
namespace mahia::cpu {
namespace {

FilteredView filtered(std::span<const ConstView> views) { return {views[0], views[1], views[2]}; }
FilteredGradient gradient(std::span<const View> views) { return {views[0], views[1], views[2]}; }

void hyena_conv(std::span<const ConstView> v, std::span<const ConstView> gate_before,
                std::span<const ConstView> gate_after, ConstView h, ConstView skip, View y, View ungated,
                ConvAlgorithm algorithm) {
  gated_long_conv({filtered(v), filtered(gate_before), filtered(gate_after), h, skip}, y, ungated, algorithm);
}

void hyena_conv_grad(std::span<const ConstView> v, std::span<const ConstView> gate_before,
                     std::span<const ConstView> gate_after, ConstView h, ConstView skip, ConstView ungated,
                     ConstView dy, std::span<const View> dv, std::span<const View> dgate_before,
                     std::span<const View> dgate_after, View dh, ConvAlgorithm algorithm) {
  gated_long_conv_grad({filtered(v), filtered(gate_before), filtered(gate_after), h, skip}, ungated, dy,
                       {gradient(dv), gradient(dgate_before), gradient(dgate_after), dh}, algorithm);
}

const Registered registered_hyena_conv(DeviceType::cpu, kernels::hyena_conv, hyena_conv);
const Registered registered_hyena_conv_grad(DeviceType::cpu, kernels::hyena_conv_grad, hyena_conv_grad);

}  // namespace
}  // namespace mahia::cpu
