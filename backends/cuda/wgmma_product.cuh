// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cuda/wgmma.cuh"

namespace mahia::cuda {

// One tile of a product: `rows` valid lines of a from `row` on, the columns of b from `col` on, and `depth` numbers of
// the summed axis from `k` on. `matrix` is b's place along the outermost axis of its map.
struct Work {
  int group = -1;  // -1: no tile is left
  int row = 0, rows = 0, col = 0, matrix = 0, k = 0, depth = 0;
};

// A block's tiles of bf16 products on the tensor cores of Hopper, sums in f32. One warp copies stages of both factors
// into shared memory, two warpgroups multiply 64 rows each; they meet at barriers only, so copies for the next tile run
// while a tile is stored. The order of a sum depends on k alone. Where both factors have unit stride along their lines,
// numbers of k beyond the depth count as zeros; otherwise the maps must end there.
template <bool AlongKOfA, bool AlongKOfB>
class WgmmaProduct {
 public:
  static constexpr int rows = 128, cols = 256, depth = 64, stages = 4;
  static constexpr int consumers = 256, threads = consumers + 128;
  static constexpr int box_bytes = 64 * depth * 2;  // 64 lines, in either layout
  static constexpr int stage_bytes = (rows + cols) / 64 * box_bytes;

  struct Shared {
    char factors[stages][stage_bytes];            // of a, then of b
    char rows_of_warp[consumers / 32][16 * 256];  // half of a warp's results on their way to memory
    uint64_t full[stages], empty[stages];
  };
  static constexpr int shared_bytes = sizeof(Shared) + 1024;

  // All threads call it; `memory` has shared_bytes.
  __device__ explicit WgmmaProduct(char* memory) : shared_(*aligned(memory)) {
    if (threadIdx.x == 0) {
      for (int s = 0; s < stages; ++s) {
        init_barrier(shared_.full[s], 1);
        init_barrier(shared_.empty[s], consumers / 32);
      }
      publish_barriers();
    }
    __syncthreads();
  }

  // The last warp loads, the others multiply and store.
  __device__ static bool loads() { return threadIdx.x >= consumers; }

  // One thread of the loading warp calls it for each tile.
  __device__ void load(const Work& work, const CUtensorMap& map_a, const CUtensorMap& map_b) {
    const int steps = steps_of(work);
    for (int s = 0; s < steps; ++s) {
      wait_phase(shared_.empty[stage_], phase_ ^ 1);
      uint64_t& full = shared_.full[stage_];
      arrive_announcing(full, stage_bytes);
      const uint32_t to = shared_address(shared_.factors[stage_]);
      load_factor<AlongKOfA, rows>(to, map_a, work.row, work.k + s * depth, 0, full);
      load_factor<AlongKOfB, cols>(to + rows / 64 * box_bytes, map_b, work.col, work.k + s * depth, work.matrix, full);
      advance();
    }
  }

  // Fills the sums for a tile, the same ones in the same order as load().
  __device__ void multiply(const Work& work) {
    const int steps = steps_of(work);
    if (warpgroup() * 64 >= work.rows) {
      for (int s = 0; s < steps; ++s) {
        wait_phase(shared_.full[stage_], phase_);
        __syncwarp();
        release(stage_);
        advance();
      }
      return;
    }
    int before = 0;
    for (int s = 0; s < steps; ++s) {
      wait_phase(shared_.full[stage_], phase_);
      if constexpr (!AlongKOfA && !AlongKOfB) {
        if (work.depth - s * depth < depth) clear_from(work.depth - s * depth);
      }
      multiply_stage(s == 0);
      wait_products<1>();
      if (s > 0) release(before);
      before = stage_;
      advance();
    }
    wait_products<0>();
#pragma unroll
    for (float& sum : sums_) asm volatile("" : "+f"(sum));  // no use of a sum moves before the wait
    release(before);
  }

  // Writes the tile's `height` rows and `width` columns from `to` on, with `bias` (nullptr: none) added to each row.
  __device__ void store(bfloat16* to, int64_t row_step, int height, int width, const bfloat16* bias = nullptr) {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    char* patch = shared_.rows_of_warp[warp];
    if (warp * 16 >= height) return;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      __syncwarp();
#pragma unroll
      for (int j = 0; j < 16; j += 2) {
        const float* d = sums_ + (half * 16 + j) * 4;
        const int col = half * 128 + j * 8 + lane % 4 * 2;
        const float2 left = pair_of(bias, col, width), right = pair_of(bias, col + 8, width);
        const uint32_t packed[4] = {pack(d[0] + left.x, d[1] + left.y), pack(d[2] + left.x, d[3] + left.y),
                                    pack(d[4] + right.x, d[5] + right.y), pack(d[6] + right.x, d[7] + right.y)};
        store_matrices(shared_address(patch + place(lane % 16, j + lane / 16)), packed);
      }
      __syncwarp();
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int row = i * 2 + lane / 16, col = half * 128 + lane % 16 * 8;
        if (warp * 16 + row >= height || col >= width) continue;
        store_eight(to + (warp * 16 + row) * row_step + col, patch + place(row, lane % 16), width - col);
      }
    }
  }

 private:
  __device__ static Shared* aligned(char* memory) {
    const uint32_t beyond = shared_address(memory) % 1024;
    return reinterpret_cast<Shared*>(memory + (1024 - beyond) % 1024);
  }
  // An empty sum takes a step of zeros.
  __device__ static int steps_of(const Work& work) { return max((work.depth + depth - 1) / depth, 1); }
  __device__ static int warpgroup() { return static_cast<int>(threadIdx.x) / 128; }

  __device__ void advance() {
    stage_ = (stage_ + 1) % stages;
    phase_ ^= stage_ == 0 ? 1 : 0;
  }
  __device__ void release(int stage) {
    if (threadIdx.x % 32 == 0) arrive(shared_.empty[stage]);
  }

  template <bool AlongK, int Lines>
  __device__ static void load_factor(uint32_t to, const CUtensorMap& map, int line, int k, int outer, uint64_t& full) {
#pragma unroll
    for (int i = 0; i < Lines / 64; ++i, line += 64)
      copy_box(to + i * box_bytes, map, AlongK ? k : line, AlongK ? line : k, outer, full);
  }

  __device__ void multiply_stage(bool first) {
    constexpr int step_a = AlongKOfA ? 32 : 2048, step_b = AlongKOfB ? 32 : 2048;  // bytes of 16 numbers along k
    const uint32_t a = shared_address(shared_.factors[stage_]);
    const uint64_t factor_a = describe_factor(a + warpgroup() * box_bytes, box_bytes);
    const uint64_t factor_b = describe_factor(a + rows / 64 * box_bytes, box_bytes);
    begin_products();
#pragma unroll
    for (int i = 0; i < depth / 16; ++i) {
      multiply_add_async<AlongKOfA, AlongKOfB>(sums_, factor_a + i * (step_a / 16), factor_b + i * (step_b / 16),
                                               !first || i > 0);
    }
    commit_products();
  }

  // Clears the numbers of k from `valid` on in this warpgroup's part of a and in b. The other warpgroup does so too:
  // a later one writes zeros over zeros.
  __device__ void clear_from(int valid) {
    for (int box = 0; box < (rows + cols) / 64; ++box) {
      if (box < rows / 64 && box != warpgroup()) continue;
      uint4* groups = reinterpret_cast<uint4*>(shared_.factors[stage_] + box * box_bytes);  // eight for each k
      for (int g = max(valid, 0) * 8 + static_cast<int>(threadIdx.x) % 128; g < depth * 8; g += 128)
        groups[g] = uint4{};
    }
    publish_stores();
    sync_warpgroup(1 + warpgroup());
  }

  __device__ static float2 pair_of(const bfloat16* row, int col, int width) {
    if (row == nullptr || col >= width) return {0, 0};
    return {widen(row[col]), col + 1 < width ? widen(row[col + 1]) : 0.0f};
  }
  // Where eight numbers of a warp's rows lie: no two of eight rows or of eight columns are in the same banks.
  __device__ static int place(int row, int eighth) { return row * 256 + (eighth ^ row % 8) * 16; }

  __device__ static void store_eight(bfloat16* to, const char* from, int width) {
    if (width >= 8 && reinterpret_cast<uintptr_t>(to) % 16 == 0) {
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
    } else {
      for (int i = 0; i < min(width, 8); ++i) to[i] = reinterpret_cast<const bfloat16*>(from)[i];
    }
  }

  Shared& shared_;
  int stage_ = 0, phase_ = 0;
  float sums_[128];
};

}  // namespace mahia::cuda
