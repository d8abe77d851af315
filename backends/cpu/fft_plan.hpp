// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "backends/cpu/fft_butterfly.hpp"

namespace mahia::cpu {

// Twiddles of one block of W x W numbers at the bottom of the tree (W lanes): its W vectors are split against each
// other, transposed, and split against each other again, now with one polynomial per lane.
template <class T>
struct FftBlock {
  static constexpr int width = lane_count<T>;
  T across[2 * twiddle_count<width>];
  Complex<T> lanes[twiddle_count<width>];
};

template <class T>
struct FftPass {
  int radix;
  int64_t leg;              // complex vectors between the operands of a butterfly
  std::vector<T> twiddles;  // per node, re and im in turn
};

// How to evaluate a polynomial of `size` coefficients at the size-th roots of 1 (the discrete Fourier transform) or of
// -i. The latter makes a product of two polynomials modulo z^size + i: for real ones its real part is the first half
// of their full product, its imaginary part minus the second (the right-angle convolution), so that a causal
// convolution of real rows needs one complex transform of their own length and no padding.
// The tree z^n - r -> z^(n/R) - s, ... is walked from the root to blocks of W x W numbers; results stay in tree order.
template <class T>
struct FftPlan {
  enum class Roots { of_one, of_minus_i };

  FftPlan(int64_t n, Roots roots);

  int64_t size;
  std::vector<FftPass<T>> passes;   // from the root down; radix 1 stands for no split
  std::vector<FftBlock<T>> blocks;  // in tree order
  std::vector<int64_t> order;       // roots of one: the frequency at each place of the result
};

// The smallest size >= n that a plan can have: 64 2^a 3^b 5^c.
int64_t fft_size(int64_t n);

// The plan of this size, built at its first use and kept. Any thread may ask.
template <class T>
const FftPlan<T>& fft_plan(int64_t size, typename FftPlan<T>::Roots roots);

}  // namespace mahia::cpu
