// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "backends/cpu/elementwise.hpp"
#include "backends/cpu/signal.hpp"

// Kernels over the last axis. A row's result depends on that row alone: sums are taken in 4 vectors of lanes that are
// folded in one order, whatever stands behind the end counting as zero.
namespace mahia::cpu {

// Rows worth a task.
inline int64_t rows_per_task(int64_t n) { return std::max<int64_t>(1, elementwise_tile / std::max<int64_t>(1, n)); }

// Calls body(row number) for each row of a contiguous view, in tasks.
template <class Body>
void for_rows(const ConstView& x, Body&& body) {
  const int64_t n = x.rank() == 0 ? 1 : x.size(-1);
  if (x.numel() == 0) return;
  parallel_rows(x.numel() / n, rows_per_task(n), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) body(row);
  });
}

template <class S>
Row<const S> row_of(const ConstView& x, int64_t row) {
  const int64_t n = x.rank() == 0 ? 1 : x.size(-1);
  return {x.data<S>() + row * n, n};
}
template <class S>
Row<S> row_of(const View& x, int64_t row) {
  const int64_t n = x.rank() == 0 ? 1 : x.size(-1);
  return {x.data<S>() + row * n, n};
}

// v with `other` in the lanes from n on.
template <class T>
Vec<T> keep(Vec<T> v, int64_t n, T other) {
  for (int64_t i = std::max<int64_t>(n, 0); i < lane_count<T>; ++i) v[i] = other;
  return v;
}

// The sum of the lanes: halves are added until one is left.
inline float fold(Vec<float> v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline double fold(Vec<double> v) {
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

// The sum over [0, n) of at(i), the vector of elements [i, i + lanes): blocks of 1024 in T, their sums in f64.
template <class T, class At>
T sum_row(int64_t n, At&& at) {
  constexpr int64_t width = lane_count<T>, block = 1024;
  double total = 0;
  for (int64_t i = 0; i < n;) {
    const int64_t end = std::min(n, i + block);
    Vec<T> sum[4] = {};
    for (; i + 4 * width <= end; i += 4 * width) {
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) sum[k] += at(i + k * width);
    }
    for (int k = 0; i < end; i += width, ++k) sum[k] += keep<T>(at(i), end - i, T(0));
    total += static_cast<double>(fold((sum[0] + sum[1]) + (sum[2] + sum[3])));
  }
  return static_cast<T>(total);
}

// The largest number of a row; NaN when it holds one.
template <class S>
compute_t<S> max_row(const Row<const S>& x) {
  using T = compute_t<S>;
  const int64_t n = x.length();
  constexpr int64_t width = lane_count<T>;
  Vec<T> top[4];
  const T first = static_cast<T>(x.data()[0]);
  for (Vec<T>& t : top) t = Lanes<T>::all(first);
  const auto raise = [&](Vec<T>& t, Vec<T> v) { t = ((v > t) | (v != v)) ? v : t; };
  int64_t i = 0;
  for (; i + 4 * width <= n; i += 4 * width) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) raise(top[k], x.load(i + k * width));
  }
  for (; i < n; i += width) raise(top[0], keep<T>(x.load(i), n - i, first));
  for (const int k : {1, 2, 3}) raise(top[0], top[k]);
  T best = first;
  for (int k = 0; k < width; ++k) best = top[0][k] > best || top[0][k] != top[0][k] ? top[0][k] : best;
  return best;
}

}  // namespace mahia::cpu
