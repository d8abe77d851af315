// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <utility>

#include "backends/cpu/fft_lanes.hpp"

// Sums of a convolution in the order of time, for a fixed number of neighbouring outputs that stay in registers.
namespace mahia::cpu {

inline constexpr int sum_vectors = 8;  // registers that hold sums
template <class T>
inline constexpr int sum_width = sum_vectors* lane_count<T>;  // outputs at a time

// sums[j] += sum_{k < count} scalars[k] vectors[j - k] for j < sum_width: reads vectors[1 - count ... sum_width). Terms
// come in groups of 4 vectors' width: a loaded vector serves the four scalars of a group that stand a vector apart.
template <class T>
[[gnu::always_inline]] inline void add_products(const T* scalars, int64_t count, const T* vectors,
                                                Vec<T> (&sums)[sum_vectors]) {
  constexpr int width = lane_count<T>, apart = 4, group = apart * width;
  const int64_t grouped = count / group * group;
  for (int64_t k = 0; k < grouped; k += group) {
    for (int r = 0; r < width; ++r) {
      Vec<T> x[apart];
      for (int m = 0; m < apart; ++m) x[m] = Lanes<T>::all(scalars[k + r + m * width]);
      const T* from = vectors - k - r;
#pragma GCC unroll 16
      for (int c = 1 - apart; c < sum_vectors; ++c) {
        const Vec<T> h = Lanes<T>::load(from + c * width);
#pragma GCC unroll 4
        for (int m = 0; m < apart; ++m) {
          if (c + m >= 0 && c + m < sum_vectors) sums[c + m] = Lanes<T>::fma(h, x[m], sums[c + m]);
        }
      }
    }
  }
  for (int64_t k = grouped; k < count; ++k) {
    const Vec<T> x = Lanes<T>::all(scalars[k]);
    for (int j = 0; j < sum_vectors; ++j) {
      sums[j] = Lanes<T>::fma(Lanes<T>::load(vectors - k + j * width), x, sums[j]);
    }
  }
}

// sums[j] = sum_{k < count} scalars[k] vectors[j - k] for j < n, a multiple of sum_width.
template <class T>
void products(const T* scalars, int64_t count, const T* vectors, int64_t n, T* sums) {
  for (int64_t first = 0; first < n; first += sum_width<T>) {
    Vec<T> y[sum_vectors] = {};
    add_products(scalars, count, vectors + first, y);
    for (int j = 0; j < sum_vectors; ++j) Lanes<T>::store(sums + first + j * lane_count<T>, y[j]);
  }
}

// The lanes of `a` before lane `count`, the others of `b`.
template <class T>
[[gnu::always_inline]] inline Vec<T> first_lanes(int count, Vec<T> a, Vec<T> b) {
  if constexpr (sizeof(T) == 4) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(count), lanes)));
  } else {
    const __m256i lanes = _mm256_setr_epi64x(0, 1, 2, 3);
    return _mm256_blendv_pd(b, a, _mm256_castsi256_pd(_mm256_cmpgt_epi64(_mm256_set1_epi64x(count), lanes)));
  }
}

// sums[j] = sum_{i <= j} taps[j - i] v[i] for j < n, i ascending, one product after the other: the terms
// with i > j do not count, even infinite ones. taps has lane_count readable numbers before it; n is a multiple of
// sum_width.
template <class T>
void triangle(const T* taps, const T* v, int64_t n, T* sums) {
  constexpr int width = lane_count<T>;
  for (int64_t first = 0; first < n; first += sum_width<T>) {
    Vec<T> y[sum_vectors] = {};
    for (int64_t i = 0; i < first; ++i) {
      const Vec<T> x = Lanes<T>::all(v[i]);
      for (int j = 0; j < sum_vectors; ++j) {
        y[j] = Lanes<T>::fma(Lanes<T>::load(taps + first + j * width - i), x, y[j]);
      }
    }
    const auto strip = [&]<int k>(std::integral_constant<int, k>) {
      for (int lane = 0; lane < width; ++lane) {
        const Vec<T> x = Lanes<T>::all(v[first + k * width + lane]);
        y[k] = first_lanes<T>(lane, y[k], Lanes<T>::fma(Lanes<T>::load(taps - lane), x, y[k]));
#pragma GCC unroll 8
        for (int j = k + 1; j < sum_vectors; ++j) {
          y[j] = Lanes<T>::fma(Lanes<T>::load(taps + (j - k) * width - lane), x, y[j]);
        }
      }
    };
    [&]<int... k>(std::integer_sequence<int, k...>) { (strip(std::integral_constant<int, k>{}), ...); }
    (std::make_integer_sequence<int, sum_vectors>{});
    for (int j = 0; j < sum_vectors; ++j) Lanes<T>::store(sums + first + j * width, y[j]);
  }
}

// The next term of `triangle` for the outputs from its input on: sums[j] += taps[j] v.
template <class T>
void add_term(const T* taps, T v, int64_t n, T* sums) {
  for (int64_t j = 0; j < n; ++j) sums[j] = std::fma(taps[j], v, sums[j]);
}

}  // namespace mahia::cpu
