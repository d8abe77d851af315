// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/dtype.hpp"

namespace mahia::cuda {

// The instructions of a tensor-core product of bf16 numbers: asynchronous copies into shared memory, loads of 8 x 8
// matrices into registers, and d (16, 8) += a (16, 16) b (16, 8) in f32.

__device__ inline uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// 16 bytes; zeros where `valid` is false.
__device__ inline void copy_async(uint32_t to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(from), "r"(valid ? 16 : 0));
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;\n" ::); }
template <int Pending>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(Pending));
}

// Four 8 x 8 matrices, whose rows the four quarters of the warp point at.
template <bool Transposed>
__device__ inline void load_matrices(uint32_t (&r)[4], uint32_t row) {
  if constexpr (Transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row));
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row));
  }
}

__device__ inline void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// A tile of `Lines` rows or columns by 32 of the summed axis k in shared memory. KContiguous: [Lines][32], else
// [32][Lines]. Groups of 16 bytes are permuted, so that eight consecutive ones of a load lie in different banks.
template <int Lines, bool KContiguous>
struct Tile {
  static constexpr int depth = 32;
  static constexpr int bytes = Lines * depth * 2;
  static constexpr int groups = Lines * depth / 8;

  // Group g (of 8 numbers) in the order of memory: its line, its k, and where it lies.
  __device__ static int line_of(int g) { return KContiguous ? g / 4 : g % (Lines / 8) * 8; }
  __device__ static int k_of(int g) { return KContiguous ? g % 4 * 8 : g / (Lines / 8); }
  __device__ static uint32_t place(int line, int k) {
    if constexpr (KContiguous) return static_cast<uint32_t>(line * 64 + ((k / 8) ^ (line / 2 % 4)) * 16);
    return static_cast<uint32_t>(k * Lines * 2 + ((line / 8) ^ (k % 8)) * 16);
  }

  // The fragment of 16 lines by 16 k from (line, k), as the operand a of multiply_add: lines 0-7 | 8-15, k 0-7 | 8-15
  // in registers {lines 0-7 k 0-7, lines 8-15 k 0-7, lines 0-7 k 8-15, lines 8-15 k 8-15}.
  __device__ static void load(uint32_t (&r)[4], uint32_t base, int line, int k, int lane) {
    const int matrix = lane / 8, row = lane % 8;
    const int line_part = matrix % 2 * 8, k_part = matrix / 2 * 8;
    if constexpr (KContiguous) {
      load_matrices<false>(r, base + place(line + line_part + row, k + k_part));
    } else {
      load_matrices<true>(r, base + place(line + line_part, k + k_part + row));
    }
  }
};

}  // namespace mahia::cuda
