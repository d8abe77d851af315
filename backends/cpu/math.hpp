// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

// Elementary functions in f32 for loops that must vectorise: no branch, no table, no call (hence
// always_inline). The error is at most 2 units
// in the last place. Each operation is written out, so the vector body and the scalar tail of a loop give the same
// bits. The f64 forms are libm's. Polynomials are minimax fits (Remez) of the remainder named beside them.
namespace mahia::cpu {

inline constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;

// c0 + c1 x + c2 x^2 + ... by Horner's rule, unrolled: a loop here would keep the caller's loop from vectorising.
[[gnu::always_inline]] inline float polynomial(float, float c0) { return c0; }
template <class... Rest>
[[gnu::always_inline]] inline float polynomial(float x, float c0, Rest... rest) {
  return std::fma(polynomial(x, rest...), x, c0);
}

// 2^n for -126 <= n <= 127.
[[gnu::always_inline]] inline float power_of_two(int32_t n) { return std::bit_cast<float>((n + 127) << 23); }

// e^x = 2^n e^r with |r| <= ln 2 / 2. Adding 1.5 * 2^23 rounds to a whole number, found in the low bits. 2^n is applied
// in two halves, which reaches infinity and the subnormal numbers.
[[gnu::always_inline]] inline float fast_exp(float x) {
  constexpr float to_whole = 12582912.0f;
  x = x > 100.0f ? 100.0f : x;
  x = x < -120.0f ? -120.0f : x;
  const float shifted = std::fma(x, 1.44269504f, to_whole);
  const float n = shifted - to_whole;
  const float high = std::fma(n, -ln2_high, x), low = n * -ln2_low;  // high is exact
  const float r = high + low;
  const float r_error = (high - r) + low;
  const float one = 1.0f + r, one_error = r - (one - 1.0f);
  const float rest =
      std::fma(r * r, polynomial(r, 0.49999994f, 0.166665196f, 0.0416683927f, 0.00836877991f, 0.00138144649f), r_error);
  const float e = one + (rest + one_error);
  const int32_t k = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(to_whole);
  const int32_t half = k >> 1;
  return e * power_of_two(half) * power_of_two(k - half);
}

// log x = n log 2 + log(1 + f) with 1 + f in [sqrt(1/2), sqrt(2)); log(1 + f) = f - f^2 / 2 + f^3 p(f).
[[gnu::always_inline]] inline float fast_log(float x) {
  constexpr int32_t sqrt_half = 0x3f3504f3;
  const bool subnormal = x < 1.17549435e-38f;
  const float scaled = x * 8388608.0f;
  const int32_t bits = std::bit_cast<int32_t>(subnormal ? scaled : x) - sqrt_half;
  const float n = static_cast<float>((bits >> 23) - (subnormal ? 23 : 0));
  const float f = std::bit_cast<float>((bits & 0x7fffff) + sqrt_half) - 1.0f;
  const float square = f * f;
  const float tail =
      std::fma(n, ln2_low,
               std::fma(f * square,
                        polynomial(f, 0.333333135f, -0.250000089f, 0.200021192f, -0.166679949f, 0.142195538f,
                                   -0.124055944f, 0.118881613f, -0.116756171f, 0.0674660057f),
                        -0.5f * square));
  float y = std::fma(n, ln2_high, f + tail);
  y = x == 0.0f ? -INFINITY : y;
  y = x < 0.0f ? NAN : y;
  return x < INFINITY ? y : x;  // infinity and NaN stay
}

// log(1 + e) for 0 <= e <= 1 as 2 atanh(s), s = e / (2 + e).
[[gnu::always_inline]] inline float fast_log1p(float e) {
  const float sum = 2.0f + e, inverse = 1.0f / sum;
  const float s = e * inverse;
  const float s_error = (std::fma(-s, sum, e) - s * (e - (sum - 2.0f))) * inverse;
  const float square = s * s;
  return 2.0f * s +
         std::fma(s * square,
                  polynomial(square, 0.666666687f, 0.400000542f, 0.28568396f, 0.223014995f, 0.17147851f, 0.217923924f),
                  2.0f * s_error);
}

// Near 0 an odd polynomial; beyond, 1 - 2 / (exp(2 |x|) + 1) with the sign of x.
[[gnu::always_inline]] inline float fast_tanh(float x) {
  const float size = std::fabs(x), square = x * x;
  const float near = std::fma(
      x * square,
      polynomial(square, -0.333333284f, 0.133331582f, -0.0539405644f, 0.021666348f, -0.00809196848f, 0.00206466555f),
      x);
  const float far = std::copysign(1.0f - 2.0f / (fast_exp(2.0f * size) + 1.0f), x);
  return size < 0.65f ? near : far;
}

// Phi(x), the distribution function of the standard normal. Phi(-a) = exp(-a^2 / 2) p(t) / (a + 3) with
// t = (a - 3) / (a + 3); the rounding error of a^2 is carried along, since exp multiplies it by a^2 / 2.
[[gnu::always_inline]] inline float normal_cdf(float x) {
  float a = std::fabs(x);
  a = a > 16.0f ? 16.0f : a;
  const float inverse = 1.0f / (a + 3.0f);
  const float t = std::fma(-6.0f, inverse, 1.0f);
  const float square = a * a, error = std::fma(a, a, -square);
  const float e = fast_exp(-0.5f * square);
  const float tail =
      std::fma(e, -0.5f * error, e) *
      (polynomial(t, 0.729083717f, -0.509332001f, 0.230017707f, -0.0472626872f, -0.0104625188f, 0.00696930429f,
                  0.00102477672f, -0.00103253615f, -0.000244748546f, 0.000131272624f, 5.44634204e-05f) *
       inverse);
  const float sign = std::copysign(1.0f, x);
  return std::fma(-sign, tail, 0.5f + 0.5f * sign);  // 1 - tail or tail
}

// x = n pi / 2 + r, reduced in f64; the quarter n mod 4 picks the function and the sign. Exact for |x| <= 2^50.
inline constexpr float trigonometric_limit = 0x1p50f;

[[gnu::always_inline]] inline float sine_of_quarter(float x, int64_t shift) {
  constexpr double to_whole = 0x1.8p52;
  const double wide = static_cast<double>(x);
  const double shifted = std::fma(wide, 0.63661977236758134, to_whole);
  const double n = shifted - to_whole;
  const auto r = static_cast<float>(std::fma(n, -6.1232339957367660e-17, std::fma(n, -1.5707963267948966, wide)));
  const auto quarter = static_cast<int32_t>(std::bit_cast<int64_t>(shifted) + shift);
  const float square = r * r;
  const float s =
      std::fma(r * square, polynomial(square, -0.166666672f, 0.00833332911f, -0.000198393347f, 2.71830413e-06f), r);
  const float c = std::fma(square * square, polynomial(square, 0.0416666456f, -0.00138873665f, 2.44383791e-05f),
                           std::fma(-0.5f, square, 1.0f));
  const float value = (quarter & 1) != 0 ? c : s;
  return std::bit_cast<float>(std::bit_cast<int32_t>(value) ^ ((quarter & 2) << 30));
}

// The functions that the formulas of backends/common/pointwise.hpp ask for.
struct Math {
  [[gnu::always_inline]] static float exp(float x) { return fast_exp(x); }
  [[gnu::always_inline]] static float log(float x) { return fast_log(x); }
  [[gnu::always_inline]] static float log1p(float x) { return fast_log1p(x); }
  [[gnu::always_inline]] static float tanh(float x) { return fast_tanh(x); }
  [[gnu::always_inline]] static float sin(float x) { return sine_of_quarter(x, 0); }
  [[gnu::always_inline]] static float cos(float x) { return sine_of_quarter(x, 1); }
  [[gnu::always_inline]] static float normal_cdf(float x) { return cpu::normal_cdf(x); }
  [[gnu::always_inline]] static float sqrt(float x) { return std::sqrt(x); }
  [[gnu::always_inline]] static float fma(float x, float y, float z) { return std::fma(x, y, z); }

  static double exp(double x) { return std::exp(x); }
  static double log(double x) { return std::log(x); }
  static double log1p(double x) { return std::log1p(x); }
  static double tanh(double x) { return std::tanh(x); }
  static double sin(double x) { return std::sin(x); }
  static double cos(double x) { return std::cos(x); }
  static double normal_cdf(double x) { return 0.5 * std::erfc(-0.70710678118654752 * x); }
  static double sqrt(double x) { return std::sqrt(x); }
  static double fma(double x, double y, double z) { return std::fma(x, y, z); }
};

}  // namespace mahia::cpu
