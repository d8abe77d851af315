// SPDX-License-Identifier: Apache-2.0
#include "backends/cpu/dyadic.hpp"

#include <algorithm>
#include <bit>

#include "backends/cpu/fft_walk.hpp"
#include "backends/cpu/signal.hpp"
#include "backends/cpu/time_sums.hpp"

namespace mahia::cpu {
namespace {

template <class T>
void add_reversed(const T* from, int64_t n, T* to) {
  for (int64_t i = 0; i < n; ++i) to[n - 1 - i] += from[i];
}

// Adds the real part of what comes out of the root, divided by nothing, to a row.
template <class T>
void add_row(const FftPlan<T>& plan, const Complex<T>* x, Row<T> to) {
  write_row(plan, x, [=](int64_t t, Vec<T> value) { to.store(t, to.load(t) + value); });
}

// near[l] += sum_i v[i] r[i + l]: the block's inputs against the gradients of its own outputs, and, for a block with a
// smallest tile behind it, against those of the next block.
template <class T>
void add_near(const T* v, const T* r, bool has_tile, double* near) {
  constexpr int64_t base = DyadicTiling::base;
  T reversed[base], gradients[3 * base] = {}, sums[2 * base];
  std::reverse_copy(v, v + base, reversed);
  const int64_t reached = has_tile ? 2 * base : base;
  std::copy_n(r, reached, gradients);
  products(reversed, base, gradients + base - 1, reached, sums);
  for (int64_t l = 0; l < reached; ++l) near[l] += static_cast<double>(sums[l]);
}

}  // namespace

template <class T>
DyadicTiles<T>::DyadicTiles(const DyadicTiling& tiling) : tiling_(tiling) {
  for (int64_t n = 2 * base; n <= largest(); n *= 2) {
    plans_.push_back(&fft_plan<T>(n, FftPlan<T>::Roots::of_minus_i));
  }
}

template <class T>
const FftPlan<T>& DyadicTiles<T>::plan(int64_t inputs) const {
  return *plans_[static_cast<size_t>(std::countr_zero(static_cast<uint64_t>(inputs / base)) - 1)];
}

template <class T>
void DyadicTiles<T>::prepare(const T* taps, int64_t count, T skip, const DyadicFilter<T>& filter) const {
  std::fill_n(filter.taps() - base, 4 * base, T(0));
  std::copy_n(taps, std::min(count, 2 * base), filter.taps());
  filter.taps()[0] += skip;
  for (int64_t n = 2 * base; n <= largest(); n *= 2) {
    const Row<const T> near(taps, std::min(count, n)), far(taps + near.length(), count - near.length());
    const Vec<T> scale = Lanes<T>::all(T(1) / static_cast<T>(n));
    read_row(plan(n), filter.spectrum(n),
             [=](int64_t t) { return Complex<T>(scale * far.load(t), scale * near.load(t)); });
    walk(plan(n), {filter.spectrum(n)}, {}, leave_as_is);
  }
}

template <class T>
void DyadicTiles<T>::add_tile(const DyadicFilter<T>& filter, const T* v, int64_t position, int64_t length, T* sums,
                              Complex<T>* x) const {
  const int64_t n = tiling_.at(position);
  if (n == 0) return;
  const T* const inputs = v + position - n;
  if (n == base) {
    T sum[base];
    products(inputs, base, filter.taps() + base, base, sum);
    for (int64_t j = 0; j < base; ++j) sums[position + j] += sum[j];
    return;
  }
  const Complex<T>* const spectrum = filter.spectrum(n);
  read_row(plan(n), x, [=](int64_t t) { return Lanes<T>::load(inputs + t); });
  walk(plan(n), {x}, x, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) x[i] = x[i] * spectrum[i];
  });
  add_row(plan(n), x, Row<T>(sums + position, std::min(n, length - position)));
}

template <class T>
void DyadicTiles<T>::convolve(const DyadicFilter<T>& filter, const T* v, int64_t time, int64_t length, T* sums,
                              Complex<T>* x) const {
  for (int64_t position = 0; position < time; position += base) {
    if (position > 0) add_tile(filter, v, position, length, sums, x);
    T sum[base];
    triangle(filter.taps(), v + position, base, sum);
    for (int64_t j = 0; j < base; ++j) sums[position + j] += sum[j];
  }
}

// A tile of more than base inputs. With r and v transformed, v correlated with r is the gradient of i h0 + h1.
template <class T>
void DyadicTiles<T>::transpose_tile(const DyadicFilter<T>& filter, const T* r, const T* v, int64_t position,
                                    int64_t time, T* dv, const DyadicFilter<T>* dfilter, Complex<T>* x) const {
  const int64_t n = tiling_.at(position);
  const Row<const T> gradients(r + position, std::min(n, time - position));
  const T* const inputs = v + position - n;
  const Complex<T>* const spectrum = filter.spectrum(n);
  read_row(plan(n), x, [=](int64_t t) { return gradients.load(t); });
  if (dfilter == nullptr) {
    walk(plan(n), {x}, x, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) x[i] = conj_times(spectrum[i], x[i]);
    });
  } else {
    Complex<T>*const y = x + n / lane_count<T>, *const sum = dfilter->spectrum(n);
    read_row(plan(n), y, [=](int64_t t) { return Lanes<T>::load(inputs + t); });
    walk(plan(n), {x, y}, x, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Complex<T> gradient = x[i];
        sum[i] = sum[i] + conj_times(y[i], gradient);
        x[i] = conj_times(spectrum[i], gradient);
      }
    });
  }
  add_row(plan(n), x, Row<T>(dv + position - n, n));
}

template <class T>
void DyadicTiles<T>::transpose(const DyadicFilter<T>& filter, const T* r, const T* v, int64_t time, T* dv,
                               const DyadicFilter<T>& dfilter, double* near, Complex<T>* x) const {
  for (int64_t position = 0; position < time; position += base) {
    T reversed[base], sum[base];
    std::reverse_copy(r + position, r + position + base, reversed);
    triangle(filter.taps(), reversed, base, sum);
    add_reversed(sum, base, dv + position);
    const int64_t n = position > 0 ? tiling_.at(position) : 0;
    if (n == base) {
      products(reversed, base, filter.taps() + base, base, sum);
      add_reversed(sum, base, dv + position - base);
    } else if (n > base) {
      transpose_tile(filter, r, v, position, time, dv, near == nullptr ? nullptr : &dfilter, x);
    }
    if (near == nullptr) continue;
    const int64_t next = position + base;
    add_near(v + position, r + position, next < time && tiling_.at(next) == base, near);
  }
}

template <class T>
void DyadicTiles<T>::finish(const DyadicFilter<T>& dfilter, const double* near, int64_t count, T* dtaps) const {
  const Row<T> taps(dtaps, count);
  for (int64_t l = 0; l < count; ++l) dtaps[l] = l < 2 * base ? static_cast<T>(near[l]) : T(0);
  for (int64_t n = 2 * base; n <= largest(); n *= 2) {
    Complex<T>* const x = dfilter.spectrum(n);
    walk(plan(n), {}, x, leave_as_is);
    const Vec<T> scale = Lanes<T>::all(T(1) / static_cast<T>(n));
    const Row<T> far(dtaps + std::min(n, count), std::max<int64_t>(0, count - n));
    const auto add = [=](int64_t i, Complex<T> value) {
      const int64_t t = i * lane_count<T>;
      taps.store(t, taps.load(t) + scale * value.im);
      far.store(t, far.load(t) + scale * value.re);
    };
    const FftPass<T>& root = plan(n).passes[0];
    root.radix == 4 ? merge_node<4>(root, 0, x, add) : merge_node<1>(root, 0, x, add);
  }
}

template class DyadicTiles<float>;
template class DyadicTiles<double>;

}  // namespace mahia::cpu
