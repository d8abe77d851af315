// SPDX-License-Identifier: Apache-2.0
#include "ops/long_conv.hpp"

#include "backends/cuda/check.hpp"
#include "backends/cuda/long_conv_ways.hpp"
#include "backends/cuda/runtime.hpp"

namespace mahia::cuda {
namespace {

bool fits_block(const ConstView& u) { return u.dtype() != DType::f64 && u.size(2) <= longest_in_block; }

void long_conv(ConstView u, ConstView h, ConstView skip, ConstView gate_before, ConstView gate_after, View y,
               View ungated, ConvAlgorithm algorithm) {
  convolve({u, h, skip, gate_before, gate_after, y, ungated}, algorithm);
}

void long_conv_grad(ConstView u, ConstView h, ConstView skip, ConstView gate_before, ConstView gate_after,
                    ConstView ungated, ConstView dy, View du, View dh, View dgate_before, View dgate_after,
                    ConvAlgorithm algorithm) {
  convolve_grad({u, h, skip, gate_before, gate_after, ungated, dy, du, dh, dgate_before, dgate_after}, algorithm);
}

const Registered registered_long_conv(DeviceType::cuda, kernels::long_conv, long_conv);
const Registered registered_long_conv_grad(DeviceType::cuda, kernels::long_conv_grad, long_conv_grad);

}  // namespace

void set_zero(const View& x) {
  if (!x.defined() || x.numel() == 0) return;
  const size_t bytes = static_cast<size_t>(x.numel()) * size_of(x.dtype());
  check_cuda(cudaMemsetAsync(x.raw(), 0, bytes, stream_of(x.device())), "cudaMemsetAsync");
}

void convolve(const ConvCall& call, ConvAlgorithm algorithm) {
  if (call.u.numel() == 0) return;
  if (algorithm == ConvAlgorithm::dyadic) return convolve_dyadic(call);
  if (algorithm == ConvAlgorithm::direct) return convolve_direct(call);
  fits_block(call.u) ? convolve_in_blocks(call) : convolve_with_cufft(call);
}

void convolve_grad(const ConvGradCall& call, ConvAlgorithm algorithm) {
  if (call.u.numel() == 0) return set_zero(call.dh);
  if (algorithm == ConvAlgorithm::dyadic) return convolve_dyadic_grad(call);
  if (algorithm == ConvAlgorithm::direct) return convolve_direct_grad(call);
  fits_block(call.u) ? convolve_in_blocks_grad(call) : convolve_with_cufft_grad(call);
}

}  // namespace mahia::cuda
