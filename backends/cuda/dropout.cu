// SPDX-License-Identifier: Apache-2.0
#include "ops/dropout.hpp"

#include <cmath>

#include "backends/cuda/convert.cuh"
#include "backends/cuda/launch.cuh"

namespace mahia::cuda {
namespace {

constexpr int threads = 256;

// Four elements a thread: one block of Philox. An element stays when the upper 24 bits of its word reach the threshold.
template <class T>
__global__ void __launch_bounds__(threads)
    dropout_kernel(const T* x, T* y, int64_t n, uint32_t threshold, compute_t<T> scale, RandomCall call,
                   const uint64_t* step_offset) {
  using S = compute_t<T>;
  const int64_t block = thread_number();
  if (block * 4 >= n) return;
  call.step += *step_offset;
  const auto words = random_words(call, static_cast<uint64_t>(block));
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int64_t i = block * 4 + k;
    if (i < n) y[i] = convert<T>(words[k] >> 8 >= threshold ? convert<S>(x[i]) * scale : S{0});
  }
}

void dropout(ConstView x, View y, double p, RandomCall call) {
  const auto threshold = static_cast<uint32_t>(std::ceil(p * 0x1p24));
  visit_float(x.dtype(), [&]<class T>() {
    using S = compute_t<T>;
    const S scale = p < 1 ? static_cast<S>(1 / (1 - p)) : S{0};
    launch(dropout_kernel<T>, x.device(), blocks_for(ceil_div(x.numel(), 4), threads), threads, 0, x.data<T>(),
           y.data<T>(), x.numel(), threshold, scale, call, step_offset_of(x.device()));
  });
}

const Registered registered_dropout(DeviceType::cuda, kernels::dropout, dropout);

}  // namespace
}  // namespace mahia::cuda
