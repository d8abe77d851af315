// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <type_traits>

#include "backends/cuda/launch.cuh"
#include "backends/cuda/pack.cuh"
#include "core/view.hpp"

namespace mahia::cuda {

// Sums and extremes over the threads of a warp or block, in an order that depends on their number alone; every thread
// gets the result.

// The value of the lane whose number differs in the bit `step`; structs word by word.
template <class T>
__device__ inline T from_lane_across(T value, int step) {
  if constexpr (std::is_arithmetic_v<T>) {
    return __shfl_xor_sync(all_lanes, value, step);
  } else {
    struct Words {
      unsigned words[sizeof(T) / 4];
    };
    auto words = std::bit_cast<Words>(value);
    for (unsigned& word : words.words) word = __shfl_xor_sync(all_lanes, word, step);
    return std::bit_cast<T>(words);
  }
}

template <class T, class Fn>
__device__ inline T warp_reduce(T value, const Fn& fn) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value = fn(value, from_lane_across(value, step));
  return value;
}

// Threads: a multiple of 32, all of them here. `shared` holds one T per warp and may be reused after the return.
template <class T, class Fn>
__device__ inline T block_reduce(T value, const Fn& fn, T* shared) {
  const int warps = static_cast<int>(blockDim.x) / 32;
  value = warp_reduce(value, fn);
  if (warps == 1) return value;
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  T total = shared[0];
  for (int w = 1; w < warps; ++w) total = fn(total, shared[w]);
  __syncthreads();
  return total;
}

struct Plus {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

// The larger; NaN wins.
struct Larger {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return b > a || b != b ? b : a;
  }
};

// The sum of the values of this lane and those before it.
template <class T>
__device__ inline T warp_running_sum(T value) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const T left = __shfl_up_sync(all_lanes, value, step);
    if (lane >= step) value = left + value;
  }
  return value;
}

// The sum in T of n numbers, by the only block, of 1024 threads at the most.
template <class T, class X>
__device__ inline T sum_of(const X* x, int64_t n) {
  __shared__ T shared[32];
  T total = T(0);
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) total += x[i];
  return block_reduce(total, Plus(), shared);
}

// `width` neighbouring threads, a power of two, work on one row: the block, or up to 32 of a block that has several.
struct RowTeam {
  int width = 1;

  __device__ int64_t row() const {
    return static_cast<int64_t>(blockIdx.x) * (blockDim.x / width) + threadIdx.x / width;
  }
  __device__ int lane() const { return static_cast<int>(threadIdx.x) % width; }

  // Over the team; `shared` as for block_reduce.
  template <class T, class Fn>
  __device__ T reduce(T value, const Fn& fn, T* shared) const {
    if (width > 32) return block_reduce(value, fn, shared);
    if (width == 32) return warp_reduce(value, fn);
    for (int step = width / 2; step > 0; step /= 2) value = fn(value, from_lane_across(value, step));
    return value;
  }

  // A block that several rows share has `small` threads.
  int threads(int small) const { return width > 32 ? width : small; }
  unsigned blocks(int64_t rows, int small) const { return blocks_for(rows, threads(small) / width); }
};

template <class T, class V>
auto data_or_null(const V& x) {
  return x.defined() ? x.template data<T>() : nullptr;
}

// A vector of any floating dtype, or none.
struct AnyVector {
  void* data;
  DType dtype;

  explicit AnyVector(const ConstView& x) : data(const_cast<void*>(x.raw())), dtype(x.dtype()) {}

  // Elements [i, i + V); `absent` for each where there is no vector.
  template <int V, class S>
  __device__ void read(int64_t i, bool aligned, S (&values)[V], S absent) const {
    for (int k = 0; data == nullptr && k < V; ++k) values[k] = absent;
    if (data == nullptr) return;
    if (dtype == DType::f64) return load_values(static_cast<const double*>(data) + i, aligned, values);
    if (dtype == DType::f32) return load_values(static_cast<const float*>(data) + i, aligned, values);
    load_values(static_cast<const bfloat16*>(data) + i, aligned, values);
  }
  template <class S>
  __device__ S read(int64_t i, S absent) const {
    S value[1];
    read(i, false, value, absent);
    return value[0];
  }
  template <class S>
  __device__ void write(int64_t i, S value) const {
    if (data == nullptr) return;
    if (dtype == DType::f64) static_cast<double*>(data)[i] = convert<double>(value);
    if (dtype == DType::f32) static_cast<float*>(data)[i] = convert<float>(value);
    if (dtype == DType::bf16) static_cast<bfloat16*>(data)[i] = convert<bfloat16>(value);
  }
};

}  // namespace mahia::cuda
