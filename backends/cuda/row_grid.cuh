// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <initializer_list>

#include "backends/cuda/launch.cuh"

namespace mahia::cuda {

inline constexpr int row_grid_threads = 256;

// The shape of a launch over `rows` rows of `items` pieces of work each, about `items_per_thread` to a thread: it takes
// every item_step()-th item from first_item() on of row row_of_thread(), which may be past the last row.
struct RowGrid {
  dim3 blocks, threads;

  RowGrid(int64_t rows, int64_t items, int64_t items_per_thread) {
    const int width = power_of_two(items, row_grid_threads), height = row_grid_threads / width;
    const int64_t across = std::min<int64_t>(ceil_div(items, width * items_per_thread), 65535);
    blocks = dim3(blocks_for(rows, height), static_cast<unsigned>(across));
    threads = dim3(static_cast<unsigned>(width), static_cast<unsigned>(height));
  }
};

__device__ inline int64_t row_of_thread() { return static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; }
__device__ inline int64_t first_item() { return static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x; }
__device__ inline int64_t item_step() { return static_cast<int64_t>(gridDim.y) * blockDim.x; }

// Calls fn.template operator()<Unit>() with the widest unit in which rows of `bytes` bytes at these addresses can be
// copied.
template <class Fn>
void visit_unit(size_t bytes, std::initializer_list<const void*> addresses, Fn&& fn) {
  uintptr_t bits = bytes;
  for (const void* address : addresses) bits |= reinterpret_cast<uintptr_t>(address);
  if (bits % 16 == 0) return fn.template operator()<uint4>();
  if (bits % 8 == 0) return fn.template operator()<uint2>();
  if (bits % 4 == 0) return fn.template operator()<uint32_t>();
  if (bits % 2 == 0) return fn.template operator()<uint16_t>();
  fn.template operator()<uint8_t>();
}

}  // namespace mahia::cuda
