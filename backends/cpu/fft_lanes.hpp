// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include <type_traits>

#include "core/dtype.hpp"

namespace mahia::cpu {

// One vector register of the baseline x86-64-v3: 8 lanes of f32 or 4 of f64. Eight bf16 numbers in memory are read and
// written as f32, with the bits of bfloat16's own conversions.
template <class T>
struct Lanes;

template <>
struct Lanes<float> {
  typedef float Vec __attribute__((vector_size(32)));
  static Vec all(float value) { return _mm256_set1_ps(value); }
  static Vec load(const float* p) { return _mm256_loadu_ps(p); }
  static Vec load(const bfloat16* p) {
    const __m256i halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(halves, 16));
  }
  static void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
  static void store(bfloat16* p, Vec v) {
    const __m256i bits = _mm256_castps_si256(v), upper = _mm256_srli_epi32(bits, 16);
    const __m256i is_odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), is_odd);
    const __m256i quiet_nan = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i halves = _mm256_blendv_epi8(_mm256_srli_epi32(up, 16), quiet_nan, is_nan);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packus_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1)));
  }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }    // a b + c
  static Vec fnma(Vec a, Vec b, Vec c) { return _mm256_fnmadd_ps(a, b, c); }  // c - a b
};

template <>
struct Lanes<double> {
  typedef double Vec __attribute__((vector_size(32)));
  static Vec all(double value) { return _mm256_set1_pd(value); }
  static Vec load(const double* p) { return _mm256_loadu_pd(p); }
  static void store(double* p, Vec v) { _mm256_storeu_pd(p, v); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_pd(a, b, c); }
  static Vec fnma(Vec a, Vec b, Vec c) { return _mm256_fnmadd_pd(a, b, c); }
};

template <class T>
using Vec = typename Lanes<T>::Vec;

template <class T>
inline constexpr int lane_count = 32 / static_cast<int>(sizeof(T));

// A vector of complex numbers. The copies are spelled out because g++ 12 copies the plain struct through memory.
template <class T>
struct Complex {
  Vec<T> re{}, im{};

  Complex() = default;
  Complex(Vec<T> real, Vec<T> imaginary) : re(real), im(imaginary) {}
  Complex(const Complex& other) : re(other.re), im(other.im) {}
  Complex& operator=(const Complex& other) {
    re = other.re;
    im = other.im;
    return *this;
  }
};

template <class T>
using RealOf = std::type_identity_t<Vec<T>>;  // leaves T to be deduced from the complex operand

template <class T>
Complex<T> operator+(Complex<T> a, Complex<T> b) {
  return {a.re + b.re, a.im + b.im};
}
template <class T>
Complex<T> operator-(Complex<T> a, Complex<T> b) {
  return {a.re - b.re, a.im - b.im};
}
template <class T>
Complex<T> operator*(Complex<T> a, Complex<T> b) {
  return {Lanes<T>::fnma(a.im, b.im, a.re * b.re), Lanes<T>::fma(a.im, b.re, a.re * b.im)};
}
template <class T>
Complex<T> operator+(RealOf<T> a, Complex<T> b) {
  return {a + b.re, b.im};
}
template <class T>
Complex<T> operator-(RealOf<T> a, Complex<T> b) {
  return {a - b.re, -b.im};
}
template <class T>
Complex<T> operator*(RealOf<T> a, Complex<T> b) {
  return {a * b.re, a * b.im};
}
template <class T>
Complex<T> conj_times(Complex<T> a, Complex<T> b) {  // conj(a) b
  return {Lanes<T>::fma(a.im, b.im, a.re * b.re), Lanes<T>::fnma(a.im, b.re, a.re * b.im)};
}
template <class T>
Complex<T> turn(Complex<T> a) {  // -i a: a quarter turn clockwise
  return {a.im, -a.re};
}
template <class T>
Complex<T> turn_back(Complex<T> a) {  // i a
  return {-a.im, a.re};
}

// Lane j of x[i] becomes lane i of x[j].
[[gnu::always_inline]] inline void transpose(Vec<float> (&x)[8]) {
  Vec<float> a[8], b[8];
  for (int k = 0; k < 4; ++k) {
    a[2 * k] = _mm256_unpacklo_ps(x[2 * k], x[2 * k + 1]);
    a[2 * k + 1] = _mm256_unpackhi_ps(x[2 * k], x[2 * k + 1]);
  }
  for (int k = 0; k < 8; k += 4) {
    b[k] = _mm256_shuffle_ps(a[k], a[k + 2], 0x44);
    b[k + 1] = _mm256_shuffle_ps(a[k], a[k + 2], 0xee);
    b[k + 2] = _mm256_shuffle_ps(a[k + 1], a[k + 3], 0x44);
    b[k + 3] = _mm256_shuffle_ps(a[k + 1], a[k + 3], 0xee);
  }
  for (int k = 0; k < 4; ++k) {
    x[k] = _mm256_permute2f128_ps(b[k], b[k + 4], 0x20);
    x[k + 4] = _mm256_permute2f128_ps(b[k], b[k + 4], 0x31);
  }
}

[[gnu::always_inline]] inline void transpose(Vec<double> (&x)[4]) {
  const Vec<double> a = _mm256_unpacklo_pd(x[0], x[1]), b = _mm256_unpackhi_pd(x[0], x[1]);
  const Vec<double> c = _mm256_unpacklo_pd(x[2], x[3]), d = _mm256_unpackhi_pd(x[2], x[3]);
  x[0] = _mm256_permute2f128_pd(a, c, 0x20);
  x[1] = _mm256_permute2f128_pd(b, d, 0x20);
  x[2] = _mm256_permute2f128_pd(a, c, 0x31);
  x[3] = _mm256_permute2f128_pd(b, d, 0x31);
}

}  // namespace mahia::cpu
