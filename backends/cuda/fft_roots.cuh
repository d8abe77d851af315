// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/device.hpp"

namespace mahia::cuda {

struct alignas(8) Complex {
  float re, im;
};

// exp(-2 pi i numerator / denominator) for numbers known at compile time, right to the last bit of an f32.
constexpr Complex unit_root(int64_t numerator, int64_t denominator) {
  const int64_t eighths = 8 * (numerator % denominator) / denominator;
  const int64_t quarter = (eighths + 1) / 2;  // the nearest one, at most an eighth of a turn away
  const double turns =
      static_cast<double>(4 * (numerator % denominator) - quarter * denominator) / static_cast<double>(4 * denominator);
  const double angle = 6.283185307179586476925 * turns;
  double cosine = 1, sine = angle, term_of_cosine = 1, term_of_sine = angle;
  for (int k = 2; k <= 18; k += 2) {
    term_of_cosine *= -angle * angle / ((k - 1) * k);
    term_of_sine *= -angle * angle / (k * (k + 1));
    cosine += term_of_cosine;
    sine += term_of_sine;
  }
  const double of_quarter[4][2] = {{cosine, -sine}, {-sine, -cosine}, {-cosine, sine}, {sine, cosine}};
  return {static_cast<float>(of_quarter[quarter % 4][0]), static_cast<float>(of_quarter[quarter % 4][1])};
}

constexpr int reversed_bits(int number, int bits) {
  int result = 0;
  for (int i = 0; i < bits; ++i) result |= (number >> i & 1) << (bits - 1 - i);
  return result;
}

// A transform evaluates a polynomial of n = 2^k coefficients at the roots of z^n = -i by splitting it again and again:
// what is left of it modulo z^(2m) - s^2 is known modulo z^m - s and z^m + s. This makes a product of two polynomials
// modulo z^n + i: for real ones its real part is the first half of their full product, its imaginary part minus the
// second (the right-angle convolution), so that a causal convolution of real rows needs one complex transform of their
// own length and no padding.
// Node q of depth d of that tree is the polynomial modulo z^(n / 2^d) - exp(-2 pi i f), f = (reversed_bits(q, d) + 1/4)
// / 2^d. It and its descendants of `level` further splits have s = exp(-2 pi i (f + turns) / 2^(level + 1)), `turns`
// the descendant's bits reversed; those with an odd last bit are -i times their neighbour's. The others, of levels 0
// ... 3, are kept in this order.
constexpr int fft_root_index(int level, int turns) { return level == 0 ? 0 : (1 << (level - 1)) + turns; }
inline constexpr int fft_depths = 11;

// Two neighbours of them, for one access; those of all nodes of one depth side by side.
struct alignas(16) FftRootPair {
  Complex root[2];
};
constexpr int fft_pair_index(int depth, int node, int pair) { return ((4 + pair) << depth) + node; }

// The pairs of depths 0 ... 10, in the device's memory.
const FftRootPair* fft_roots(Device device);

}  // namespace mahia::cuda
