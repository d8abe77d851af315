// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>

#include "backends/cpu/signal.hpp"

// A depthwise convolution of one row, for conv1d and for what reads its rows short-filtered.
namespace mahia::cpu {

// y[t] = start + sum_k w[k] x[t + k dilation] for t < n, in this order for every t; x and y in memory as T or bf16.
template <class T, class X, class Y>
void correlate(const X* x, const T* w, int64_t taps, int64_t dilation, T start, Y* y, int64_t n) {
  constexpr int width = lane_count<T>, block = 4;
  int64_t t = 0;
  for (; t + block * width <= n; t += block * width) {
    Vec<T> total[block];
    for (int i = 0; i < block; ++i) total[i] = Lanes<T>::all(start);
    for (int64_t k = 0; k < taps; ++k) {
      const Vec<T> weight = Lanes<T>::all(w[k]);
      const X* from = x + t + k * dilation;
      for (int i = 0; i < block; ++i) total[i] = Lanes<T>::fma(weight, Lanes<T>::load(from + i * width), total[i]);
    }
    for (int i = 0; i < block; ++i) Lanes<T>::store(y + t + i * width, total[i]);
  }
  for (; t < n; ++t) {
    T total = start;
    for (int64_t k = 0; k < taps; ++k) total = std::fma(w[k], static_cast<T>(x[t + k * dilation]), total);
    y[t] = static_cast<Y>(total);
  }
}

// sum_t a[t] b[t], in an order that depends on n alone. No b: the sum of a.
template <class T>
T dot(const T* a, const T* b, int64_t n) {
  constexpr int width = lane_count<T>, block = 4;
  Vec<T> sums[block] = {};
  int64_t t = 0;
  for (; t + block * width <= n; t += block * width) {
    for (int i = 0; i < block; ++i) {
      const Vec<T> left = Lanes<T>::load(a + t + i * width);
      sums[i] = b == nullptr ? sums[i] + left : Lanes<T>::fma(left, Lanes<T>::load(b + t + i * width), sums[i]);
    }
  }
  const Vec<T> lanes = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  T total = 0;
  for (int i = 0; i < width; ++i) total += lanes[i];
  for (; t < n; ++t) total += b == nullptr ? a[t] : a[t] * b[t];
  return total;
}

// y[t] = start + sum_k weight[k] x[t + k dilation - left], and its gradients.
template <class S>
struct RowFilter {
  using T = compute_t<S>;
  // Outputs worked off at once: their operands stay in the first-level cache.
  static constexpr int64_t chunk = 2048;

  int64_t taps, left, dilation;

  int64_t span() const { return dilation * (taps - 1); }
  size_t work_size() const { return static_cast<size_t>(2 * chunk + span() + taps); }  // numbers of `work`

  void forward(const Row<const S>& x, const T* weight, T start, const Row<S>& y, T* work) const {
    for (int64_t t = 0, n = 0; t < y.length(); t += n) {
      n = piece(x, t, y.length());
      if (x.has(t - left, n + span())) {
        correlate(x.data() + t - left, weight, taps, dilation, start, y.data() + t, n);
      } else {
        correlate(x.window(t - left, n + span(), work), weight, taps, dilation, start, y.data() + t, n);
      }
    }
  }

  // dx is dy correlated with the filter from its end.
  void backward(const Row<const S>& dy, const T* weight, const Row<S>& dx, T* work) const {
    T* const reversed = work + 2 * chunk + span();
    std::reverse_copy(weight, weight + taps, reversed);
    RowFilter{taps, span() - left, dilation}.forward(dy, reversed, T(0), dx, work);
  }

  // dweight[k] += sum_t dy[t] x[t + k dilation - left], dbias += sum_t dy[t].
  void add_weight_gradients(const Row<const S>& x, const Row<const S>& dy, T* dweight, T* dbias, T* work) const {
    for (int64_t t = 0, n = 0; t < dy.length(); t += n) {
      n = piece(x, t, dy.length());
      const T* gradient = dy.window(t, n, work);
      if (dbias != nullptr) *dbias += dot<T>(gradient, nullptr, n);
      if (dweight == nullptr) continue;
      const T* from = x.window(t - left, n + span(), work + chunk);
      for (int64_t k = 0; k < taps; ++k) dweight[k] += dot(gradient, from + k * dilation, n);
    }
  }

 private:
  // How many outputs from t on to work off at once. Those that meet zeros around x are pieces of their own, a few
  // vectors where the filter is short, so that the others are read in place.
  int64_t piece(const Row<const S>& x, int64_t t, int64_t outputs) const {
    constexpr int64_t unit = 4 * lane_count<T>;
    const int64_t n = std::min(chunk, outputs - t);
    if (t < left) return std::min(n, (left - t + unit - 1) / unit * unit);
    const int64_t inside = (x.length() - (t - left) - span()) / unit * unit;
    return inside > 0 ? std::min(n, inside) : n;
  }
};

}  // namespace mahia::cpu
