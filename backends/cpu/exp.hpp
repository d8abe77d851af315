// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "backends/cpu/fft_lanes.hpp"

namespace mahia::cpu {

// e^x within 1 ulp, for any x: 0 below the smallest number, infinite above the largest, NaN for NaN.
// x = n ln 2 + r with |r| <= ln 2 / 2; e^r by its series to r^7; 2^n in two factors, so that tiny results are exact.
inline Vec<float> exp(Vec<float> x) {
  constexpr float limit = 128;  // beyond, both factors saturate
  const __m256 log2_e = _mm256_set1_ps(0x1.715476p0f), ln2_high = _mm256_set1_ps(0x1.62e4p-1f),
               ln2_low = _mm256_set1_ps(0x1.7f7d1cp-20f);
  const __m256 clamped = _mm256_min_ps(_mm256_set1_ps(limit), _mm256_max_ps(_mm256_set1_ps(-limit), x));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(clamped, log2_e), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256 r = _mm256_fnmadd_ps(n, ln2_low, _mm256_fnmadd_ps(n, ln2_high, clamped));
  __m256 p = _mm256_set1_ps(1.0f / 5040);
  for (const float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(c));
  }
  const __m256i power = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(power, 1);
  const auto two_to = [](__m256i e) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(127)), 23));
  };
  return _mm256_mul_ps(_mm256_mul_ps(p, two_to(half)), two_to(_mm256_sub_epi32(power, half)));
}

inline Vec<double> exp(Vec<double> x) {
  for (int i = 0; i < lane_count<double>; ++i) x[i] = std::exp(x[i]);
  return x;
}

}  // namespace mahia::cpu
