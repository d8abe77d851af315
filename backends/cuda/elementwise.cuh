// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "backends/cuda/launch.cuh"
#include "backends/cuda/pack.cuh"
#include "core/view.hpp"

namespace mahia::cuda {

// N views of one shape as a kernel sees them: axes that are adjacent in all of them merged, innermost first.
template <int N>
struct Walk {
  int rank = 0;
  bool small = true;  // every index fits 32 bits
  int64_t total = 1;
  int64_t dims[max_rank];
  int64_t strides[max_rank][N];

  explicit Walk(const std::array<const ConstView*, N>& views) {
    const Shape& shape = views[0]->shape();
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      total *= shape[axis];
      if (shape[axis] == 1) continue;
      bool merges = rank > 0;
      for (int k = 0; k < N && merges; ++k) {
        merges = views[static_cast<size_t>(k)]->strides()[axis] == strides[rank - 1][k] * dims[rank - 1];
      }
      if (merges) {
        dims[rank - 1] *= shape[axis];
        continue;
      }
      dims[rank] = shape[axis];
      for (int k = 0; k < N; ++k) strides[rank][k] = views[static_cast<size_t>(k)]->strides()[axis];
      ++rank;
    }
    small = total < (int64_t{1} << 31);
  }

  bool is_contiguous() const {
    if (rank > 1) return false;
    for (int k = 0; k < N && rank == 1; ++k) {
      if (strides[0][k] != 1) return false;
    }
    return true;
  }

  // Element i of the row-major order, as an offset into each view.
  __device__ void offsets(int64_t i, int64_t (&offset)[N]) const {
    for (int k = 0; k < N; ++k) offset[k] = 0;
    if (small) {
      unsigned rest = static_cast<unsigned>(i);
      for (int axis = 0; axis < rank; ++axis) {
        const unsigned size = static_cast<unsigned>(dims[axis]), quotient = rest / size;
        const int64_t index = rest - quotient * size;
        for (int k = 0; k < N; ++k) offset[k] += index * strides[axis][k];
        rest = quotient;
      }
    } else {
      for (int axis = 0; axis < rank; ++axis) {
        const int64_t index = i % dims[axis];
        for (int k = 0; k < N; ++k) offset[k] += index * strides[axis][k];
        i /= dims[axis];
      }
    }
  }
};

inline constexpr int map_threads = 256;

template <int V, class Fn, class Y, class... X>
__device__ inline Pack<Y, V> map_pack(const Fn& fn, const Pack<Y, V>*, const Pack<X, V>... x) {
  Pack<Y, V> y;
#pragma unroll
  for (int k = 0; k < V; ++k) y.values[k] = fn(x.values[k]...);
  return y;
}

// Bytes moved: one read of each x, one write of y, 16 at a time for the widest type.
template <int V, class Fn, class Y, class... X>
__global__ void __launch_bounds__(map_threads) map_contiguous(Fn fn, int64_t n, Y* y, const X*... x) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * map_threads + threadIdx.x) * V;
  if (i + V <= n) {
    auto* out = reinterpret_cast<Pack<Y, V>*>(y + i);
    *out = map_pack<V>(fn, out, *reinterpret_cast<const Pack<X, V>*>(x + i)...);
  } else {
    for (int64_t j = i; j < n; ++j) y[j] = fn(x[j]...);
  }
}

template <class Fn, class Y, class... X, size_t... K>
__device__ inline void map_at(const Fn& fn, const int64_t* offset, std::index_sequence<K...>, Y* y, const X*... x) {
  y[offset[0]] = fn(x[offset[K + 1]]...);
}

template <class Fn, int N, class Y, class... X>
__global__ void __launch_bounds__(map_threads) map_strided(Fn fn, const Walk<N> walk, Y* y, const X*... x) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * map_threads + threadIdx.x;
  if (i >= walk.total) return;
  int64_t offset[N];
  walk.offsets(i, offset);
  map_at(fn, offset, std::index_sequence_for<X...>{}, y, x...);
}

// y = fn(x...) for every element; any strides, equal shapes. y may be one of x.
template <class Y, class... X, class Fn, class... Views>
void map(const Fn& fn, const View& y, const Views&... x) {
  constexpr int n = 1 + static_cast<int>(sizeof...(X));
  const Walk<n> walk({&y, &x...});
  if (walk.total == 0) return;
  Y* out = y.data<Y>();
  constexpr size_t widest = std::max({sizeof(Y), sizeof(X)...});
  constexpr int v = static_cast<int>(16 / widest);
  if (walk.is_contiguous() && is_aligned(out, sizeof(Y) * v) &&
      (is_aligned(x.template data<X>(), sizeof(X) * v) && ...)) {
    launch(map_contiguous<v, Fn, Y, X...>, y.device(), blocks_for(walk.total, map_threads * v), map_threads, 0, fn,
           walk.total, out, x.template data<X>()...);
  } else {
    launch(map_strided<Fn, n, Y, X...>, y.device(), blocks_for(walk.total, map_threads), map_threads, 0, fn, walk, out,
           x.template data<X>()...);
  }
}

}  // namespace mahia::cuda
