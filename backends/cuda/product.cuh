// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cuda/convert.cuh"
#include "backends/cuda/mma.cuh"

namespace mahia::cuda {

// A factor of a product: `lines` rows of a, or columns of b, of `depth` numbers each along the summed axis k.
template <class T>
struct Factor {
  const T* data;
  int64_t line_step, k_step;  // in elements
  int lines, depth;
};

// One block's tile of a matrix product, in one of two ways with the same interface. The order of the sum over k depends
// on k alone, so a row has the same bits in whichever tile and line it stands.

// bf16 on the tensor cores, sums in f32. Each factor has unit stride along k (K) or along its lines; steps, the extent
// of the unit axis and the addresses are multiples of 8 numbers.
template <bool AlongKOfA, bool AlongKOfB>
class TensorProduct {
 public:
  using Number = bfloat16;
  static constexpr int rows = 128, cols = 128, threads = 128, stages = 4;
  using TileA = Tile<rows, AlongKOfA>;
  using TileB = Tile<cols, AlongKOfB>;
  static constexpr int stage_bytes = TileA::bytes + TileB::bytes;
  static constexpr int shared_bytes = stages * stage_bytes;

  // Fills the sums of the rows from a.data and the columns from b.data on; `shared` has shared_bytes.
  __device__ void run(const Factor<bfloat16>& a, const Factor<bfloat16>& b, char* shared) {
    const uint32_t base = shared_address(shared);
    const int steps = (a.depth + TileA::depth - 1) / TileA::depth;
    for (int s = 0; s < stages - 1; ++s) fetch(a, b, s, steps, base);
    for (int s = 0; s < steps; ++s) {
      wait_copies<stages - 2>();
      __syncthreads();
      fetch(a, b, s + stages - 1, steps, base);
      multiply(base + static_cast<uint32_t>(s % stages * stage_bytes));
    }
    wait_copies<0>();
    __syncthreads();
  }

  // Calls fn(row, column, value, value of the next column) for the tile's pairs that are this thread's.
  template <class Fn>
  __device__ void each_pair(const Fn& fn) const {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int row = warp / 2 * 64 + lane / 4, col = warp % 2 * 64 + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        fn(row + i * 16, col + j * 8, sums_[i][j][0], sums_[i][j][1]);
        fn(row + i * 16 + 8, col + j * 8, sums_[i][j][2], sums_[i][j][3]);
      }
    }
  }

 private:
  template <class T>
  __device__ static void fetch_tile(const Factor<bfloat16>& f, int k0, uint32_t to) {
#pragma unroll
    for (int i = 0; i < T::groups / threads; ++i) {
      const int g = static_cast<int>(threadIdx.x) + i * threads, line = T::line_of(g), k = T::k_of(g);
      const bool valid = line < f.lines && k0 + k < f.depth;
      const bfloat16* from = valid ? f.data + line * f.line_step + (k0 + k) * f.k_step : f.data;
      copy_async(to + T::place(line, k), from, valid);
    }
  }

  // Every call closes a group of copies, also beyond the end, so that the count of pending groups stays the same.
  __device__ static void fetch(const Factor<bfloat16>& a, const Factor<bfloat16>& b, int step, int steps,
                               uint32_t base) {
    if (step < steps) {
      const uint32_t to = base + static_cast<uint32_t>(step % stages * stage_bytes);
      fetch_tile<TileA>(a, step * TileA::depth, to);
      fetch_tile<TileB>(b, step * TileB::depth, to + TileA::bytes);
    }
    commit_copies();
  }

  __device__ void multiply(uint32_t stage) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int row = warp / 2 * 64, col = warp % 2 * 64;
#pragma unroll
    for (int k = 0; k < TileA::depth; k += 16) {
      uint32_t a[4][4], b[4][4];
#pragma unroll
      for (int i = 0; i < 4; ++i) TileA::load(a[i], stage, row + i * 16, k, lane);
#pragma unroll
      for (int j = 0; j < 4; ++j) TileB::load(b[j], stage + TileA::bytes, col + j * 16, k, lane);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 8; ++j) multiply_add(sums_[i][j], a[i], b[j / 2][j % 2], b[j / 2][j % 2 + 2]);
      }
    }
  }

  float sums_[4][8][4] = {};
};

// Any floating type and strides on the ordinary units; sums in f32 or wider.
template <class T>
class PlainProduct {
 public:
  using Number = T;
  using S = compute_t<T>;
  static constexpr int rows = 64, cols = 64, threads = 256, depth = 16;
  static constexpr int pitch = 64 + 4;  // keeps rows of the tile in different banks
  static constexpr int shared_bytes = 2 * depth * pitch * static_cast<int>(sizeof(S));

  __device__ void run(const Factor<T>& a, const Factor<T>& b, char* shared) {
    S* left = reinterpret_cast<S*>(shared);
    S* right = left + depth * pitch;
    const int row = threadIdx.x / 16 * 4, col = threadIdx.x % 16 * 4;
    for (int k0 = 0; k0 < a.depth; k0 += depth) {
      fetch(a, k0, left);
      fetch(b, k0, right);
      __syncthreads();
#pragma unroll
      for (int k = 0; k < depth; ++k) {
        S x[4], y[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          x[i] = left[k * pitch + row + i];
          y[i] = right[k * pitch + col + i];
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
          for (int j = 0; j < 4; ++j) sums_[i][j] += x[i] * y[j];
        }
      }
      __syncthreads();
    }
  }

  template <class Fn>
  __device__ void each_pair(const Fn& fn) const {
    const int row = threadIdx.x / 16 * 4, col = threadIdx.x % 16 * 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; j += 2) fn(row + i, col + j, sums_[i][j], sums_[i][j + 1]);
    }
  }

 private:
  // Neighbouring threads read along the axis with the smaller stride.
  __device__ static void fetch(const Factor<T>& f, int k0, S* to) {
    const bool along_k = f.k_step < f.line_step;
#pragma unroll
    for (int i = 0; i < 64 * depth / threads; ++i) {
      const int g = static_cast<int>(threadIdx.x) + i * threads;
      const int line = along_k ? g / depth : g % 64, k = along_k ? g % depth : g / 64;
      const bool valid = line < f.lines && k0 + k < f.depth;
      to[k * pitch + line] = valid ? convert<S>(f.data[line * f.line_step + (k0 + k) * f.k_step]) : S{0};
    }
  }

  S sums_[4][4] = {};
};

}  // namespace mahia::cuda
