// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/view.hpp"
#include "ops/long_conv.hpp"

namespace mahia::cuda {

// The operands of kernels::long_conv and long_conv_grad.
struct ConvCall {
  ConstView u, h, skip, gate_before, gate_after;
  View y, ungated;
};
struct ConvGradCall {
  ConstView u, h, skip, gate_before, gate_after, ungated, dy;
  View du, dh, dgate_before, dgate_after;
};

// The way for an algorithm, which is not automatic, and a length.
void convolve(const ConvCall& call, ConvAlgorithm algorithm);
void convolve_grad(const ConvGradCall& call, ConvAlgorithm algorithm);

// Fills a contiguous view; nothing where it is absent or empty.
void set_zero(const View& x);

// Rows of f32 or bf16, as long as one block can transform.
inline constexpr int64_t longest_in_block = 16384;
void convolve_in_blocks(const ConvCall& call);
void convolve_in_blocks_grad(const ConvGradCall& call);

// Any row, in passes around cuFFT's transforms.
void convolve_with_cufft(const ConvCall& call);
void convolve_with_cufft_grad(const ConvGradCall& call);

// ConvAlgorithm::dyadic. The filter's gradient is that of the transforms above.
void convolve_dyadic(const ConvCall& call);
void convolve_dyadic_grad(const ConvGradCall& call);

// ConvAlgorithm::direct.
void convolve_direct(const ConvCall& call);
void convolve_direct_grad(const ConvGradCall& call);

}  // namespace mahia::cuda
