// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "backends/cpu/elementwise.hpp"
#include "backends/cpu/fft_lanes.hpp"
#include "backends/cpu/gemm.hpp"

namespace mahia::cpu {

// The register tile: 6 rows by two vectors of columns, 12 of 16 registers for sums.
inline constexpr int64_t tile_rows = 6;
template <class S>
inline constexpr int64_t tile_columns = 2 * lane_count<S>;

// Copies x (lines, k) as packed[k][width], lines beyond `lines` as zeros. `lines` <= width.
template <int64_t width, class X, class S>
void pack(const Matrix<const X>& x, int64_t lines, int64_t k, S* packed) {
  constexpr int64_t step = lane_count<S>;
  int64_t i = 0;
  if constexpr (std::is_same_v<X, S> && width % step == 0) {
    if (lines == width && x.row_stride == 1) {
      for (; i < k; ++i) std::copy_n(x.at(0, i), width, packed + i * width);
    } else if (lines == width && x.column_stride == 1) {
      for (; i + step <= k; i += step) {
        for (int64_t line = 0; line < width; line += step) {
          Vec<S> block[step];
          for (int64_t r = 0; r < step; ++r) block[r] = Lanes<S>::load(x.at(line + r, i));
          transpose(block);
          for (int64_t r = 0; r < step; ++r) Lanes<S>::store(packed + (i + r) * width + line, block[r]);
        }
      }
    }
  }
  for (; i < k; ++i) {
    for (int64_t line = 0; line < lines; ++line) packed[i * width + line] = convert<S>(*x.at(line, i));
    for (int64_t line = lines; line < width; ++line) packed[i * width + line] = S(0);
  }
}

// Where a register tile goes: c = start + sum. c has contiguous rows.
template <class S>
struct Target {
  Matrix<S> c;
  Matrix<const S> start;
  int64_t columns;

  // By value: sums whose addresses are taken would be kept in memory, not in registers.
  void write(int64_t row, Vec<S> left, Vec<S> right) const {
    S* to = c.at(row, 0);
    const S* before = start.at(row, 0);
    constexpr int64_t width = lane_count<S>;
    if (columns < tile_columns<S> || (start.data != nullptr && start.column_stride != 1)) {
      S sum[tile_columns<S>];
      Lanes<S>::store(sum, left);
      Lanes<S>::store(sum + width, right);
      for (int64_t j = 0; j < columns; ++j) {
        to[j] = start.data == nullptr ? sum[j] : before[j * start.column_stride] + sum[j];
      }
      return;
    }
    Lanes<S>::store(to, start.data == nullptr ? left : Lanes<S>::load(before) + left);
    Lanes<S>::store(to + width, start.data == nullptr ? right : Lanes<S>::load(before + width) + right);
  }
};

// `rows` rows of packed a[k][tile_rows] times packed b[k][tile_columns]. Unrolled by order: g++ would keep the sums in
// memory.
template <int rows, class S>
void multiply_tile(int64_t k, const S* a, const S* b, const Target<S>& target) {
  Vec<S> sum[rows][2] = {};
  for (; k > 0; --k, a += tile_rows, b += tile_columns<S>) {
    const Vec<S> left = Lanes<S>::load(b), right = Lanes<S>::load(b + lane_count<S>);
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
      const Vec<S> x = Lanes<S>::all(a[r]);
      sum[r][0] = Lanes<S>::fma(x, left, sum[r][0]);
      sum[r][1] = Lanes<S>::fma(x, right, sum[r][1]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < rows; ++r) target.write(r, sum[r][0], sum[r][1]);
}

template <class S>
void multiply_tile(int64_t rows, int64_t k, const S* a, const S* b, const Target<S>& target) {
  static_assert(tile_rows == 6);
  switch (rows) {
    case 1:
      return multiply_tile<1>(k, a, b, target);
    case 2:
      return multiply_tile<2>(k, a, b, target);
    case 3:
      return multiply_tile<3>(k, a, b, target);
    case 4:
      return multiply_tile<4>(k, a, b, target);
    case 5:
      return multiply_tile<5>(k, a, b, target);
    default:
      return multiply_tile<6>(k, a, b, target);
  }
}

}  // namespace mahia::cpu
