// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <utility>

#include "backends/cuda/check.hpp"
#include "backends/cuda/fault.hpp"
#include "backends/cuda/runtime.hpp"
#include "core/counters.hpp"

namespace mahia::cuda {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks of `threads` for n work items, at most 2^31 - 1.
inline unsigned blocks_for(int64_t n, int64_t threads) { return static_cast<unsigned>(ceil_div(n, threads)); }

// The smallest power of two that is n or more, but at most `most`, which is one too.
inline int power_of_two(int64_t n, int most) {
  return static_cast<int>(std::bit_ceil(static_cast<uint64_t>(std::clamp<int64_t>(n, 1, most))));
}

inline constexpr unsigned all_lanes = 0xffffffffu;

__device__ inline int64_t thread_number() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }

// Starts a kernel on the device's stream; nothing at zero blocks. Throws DeviceError when it cannot be started.
template <class... Parameters, class... Args>
void launch(void (*kernel)(Parameters...), Device device, dim3 grid, dim3 block, size_t shared, Args&&... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  kernel<<<grid, block, shared, stream_of(device)>>>(std::forward<Args>(args)...);
  check_cuda(cudaGetLastError(), "kernel launch");
  add_launches(1);
}

// Lets the kernel have more than 48 KiB of dynamic shared memory on the device; asked for once.
template <auto kernel>
void allow_shared(Device device, size_t bytes) {
  static std::atomic<uint32_t> allowed{0};  // a bit per device
  const uint32_t bit = uint32_t{1} << device.index;
  if ((allowed.load() & bit) != 0) return;
  stream_of(device);  // makes it the current one
  check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(bytes)),
             "cudaFuncSetAttribute");
  allowed |= bit;
}

// Notes the first fault; later ones are dropped.
__device__ inline void set_fault(Fault* fault, FaultCode code, int site, long long position, long long value,
                                 long long limit) {
  if (atomicCAS(reinterpret_cast<int*>(&fault->code), 0, static_cast<int>(code)) != 0) return;
  fault->site = site;
  fault->position = position;
  fault->value = value;
  fault->limit = limit;
}

}  // namespace mahia::cuda
