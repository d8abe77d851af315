// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "backends/cpu/fft_plan.hpp"
#include "ops/long_conv.hpp"

namespace mahia::cpu {

// One channel's filter as the tiles want it, or its gradient: 4 n numbers, n the inputs of the largest tile.
template <class T>
class DyadicFilter {
 public:
  explicit DyadicFilter(T* numbers) : numbers_(numbers) {}
  // The first 2 base taps, with readable numbers on both sides.
  T* taps() const { return numbers_ + DyadicTiling::base; }
  // What tiles of more than base inputs multiply their transform with.
  Complex<T>* spectrum(int64_t inputs) const { return reinterpret_cast<Complex<T>*>(numbers_ + 2 * inputs); }

 private:
  T* numbers_;
};

// The tiles of DyadicTiling, one row at a time. With h0 and h1 the taps [0, n) and [n, 2n), a tile of n inputs owes the
// second half of inputs times h0 and the first half of inputs times h1. Modulo z^n + i, as the plan computes, both are
// the real part of inputs times i h0 + h1: one complex transform of length n in, one out. The smallest tiles are direct
// sums. `x` is room for two transforms of the largest tile.
template <class T>
class DyadicTiles {
 public:
  static constexpr int64_t base = DyadicTiling::base;

  explicit DyadicTiles(const DyadicTiling& tiling);

  int64_t largest() const { return tiling_.largest(); }

  // `count` taps, and the weight of the input itself.
  void prepare(const T* taps, int64_t count, T skip, const DyadicFilter<T>& filter) const;

  // All tiles and blocks from position 0 to `time`, a multiple of base: v and sums have `length` >= time numbers.
  void convolve(const DyadicFilter<T>& filter, const T* v, int64_t time, int64_t length, T* sums, Complex<T>* x) const;

  // The tile at `position`: what its inputs in v owe to sums, both from position 0 on and `length` long.
  void add_tile(const DyadicFilter<T>& filter, const T* v, int64_t position, int64_t length, T* sums,
                Complex<T>* x) const;

  // The transpose of `convolve`: adds to dv, the gradient of v, what the gradients r of the outputs owe to it. With
  // `near`, adds also to the filter's gradient: in transformed form to `dfilter`, for the first 2 base taps to `near`.
  void transpose(const DyadicFilter<T>& filter, const T* r, const T* v, int64_t time, T* dv,
                 const DyadicFilter<T>& dfilter, double* near, Complex<T>* x) const;

  // The gradients of the first `count` taps, at most 2 largest(). `dfilter` is used up.
  void finish(const DyadicFilter<T>& dfilter, const double* near, int64_t count, T* dtaps) const;

 private:
  void transpose_tile(const DyadicFilter<T>& filter, const T* r, const T* v, int64_t position, int64_t time, T* dv,
                      const DyadicFilter<T>* dfilter, Complex<T>* x) const;
  const FftPlan<T>& plan(int64_t inputs) const;

  DyadicTiling tiling_;
  std::vector<const FftPlan<T>*> plans_;  // for 2 base, 4 base, ... inputs
};

}  // namespace mahia::cpu
