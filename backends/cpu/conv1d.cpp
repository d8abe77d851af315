// SPDX-License-Identifier: Apache-2.0
#include "ops/conv1d.hpp"

#include <algorithm>
#include <cmath>

#include "backends/cpu/signal.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"

// Bound by memory: 8 bytes an element forward and 12 backward (f32), and what the processor reads before it overwrites.
namespace mahia::cpu {
namespace {

// Outputs worked off at once: their operands stay in the first-level cache.
constexpr int64_t chunk = 2048;
// Channels of one task, neighbours in memory.
constexpr int64_t channel_tile = 8;

// y[t] = start + sum_k w[k] x[t + k dilation] for t < n, in this order for every t.
template <class T>
void correlate(const T* x, const T* w, int64_t taps, int64_t dilation, T start, T* y, int64_t n) {
  constexpr int width = lane_count<T>, block = 4;
  int64_t t = 0;
  for (; t + block * width <= n; t += block * width) {
    Vec<T> total[block];
    for (int i = 0; i < block; ++i) total[i] = Lanes<T>::all(start);
    for (int64_t k = 0; k < taps; ++k) {
      const Vec<T> weight = Lanes<T>::all(w[k]);
      const T* from = x + t + k * dilation;
      for (int i = 0; i < block; ++i) total[i] = Lanes<T>::fma(weight, Lanes<T>::load(from + i * width), total[i]);
    }
    for (int i = 0; i < block; ++i) Lanes<T>::store(y + t + i * width, total[i]);
  }
  for (; t < n; ++t) {
    T total = start;
    for (int64_t k = 0; k < taps; ++k) total = std::fma(w[k], x[t + k * dilation], total);
    y[t] = total;
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

struct Geometry {
  int64_t taps, left, dilation;
  int64_t span() const { return dilation * (taps - 1); }
};

template <class S, class T = compute_t<S>>
void forward_row(const Row<const S>& x, const T* weight, T bias, const Row<S>& y, int64_t outputs, Geometry g,
                 T* work) {
  for (int64_t t = 0; t < outputs; t += chunk) {
    const int64_t n = std::min(chunk, outputs - t);
    const T* from = x.window(t - g.left, n + g.span(), work + chunk);
    if constexpr (std::is_same_v<S, T>) {
      correlate(from, weight, g.taps, g.dilation, bias, y.data() + t, n);
    } else {
      correlate(from, weight, g.taps, g.dilation, bias, work, n);
      std::transform(work, work + n, y.data() + t, [](T value) { return static_cast<S>(value); });
    }
  }
}

// Calls body(b, c, next b, next c, work) for each row, the channels of a task in the order in which they lie in memory
// and the batch in order, so that sums over the batch have one order.
template <class S, class Body>
void for_rows(const ConstView& x, Geometry g, Body body) {
  const size_t work_bytes = static_cast<size_t>(2 * chunk + g.span() + g.taps) * sizeof(compute_t<S>);
  parallel_rows(x.size(1), channel_tile, [&](int64_t begin, int64_t end) {
    const Scratch work(x.device(), work_bytes);
    for (int64_t b = 0; b < x.size(0); ++b) {
      for (int64_t c = begin; c < end; ++c) {
        const bool last = c + 1 == end;
        body(b, c, last ? b + 1 : b, last ? begin : c + 1, work.data<compute_t<S>>());
      }
    }
  });
}

void depthwise_conv1d(ConstView x, ConstView weight, ConstView bias, View y, int64_t left, int64_t dilation) {
  visit_float(x.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const Geometry g{weight.size(1), left, dilation};
    const auto from = signal<S>(x);
    const auto to = signal<S>(y);
    for_rows<S>(x, g, [&](int64_t b, int64_t c, int64_t next_b, int64_t next_c, T* work) {
      from.row(next_b, next_c).expect(0, x.size(2));
      to.row(next_b, next_c).expect(0, y.size(2));
      const T start = bias.defined() ? bias.data<T>()[c] : T(0);
      forward_row(from.row(b, c), weight.data<T>() + c * g.taps, start, to.row(b, c), y.size(2), g, work);
    });
  });
}

// dweight[k] += sum_t dy[t] x[t + k dilation - left], dbias += sum_t dy[t].
template <class S, class T = compute_t<S>>
void add_weight_gradients(const Row<const S>& x, const Row<const S>& dy, T* dweight, T* dbias, int64_t outputs,
                          Geometry g, T* work) {
  for (int64_t t = 0; t < outputs; t += chunk) {
    const int64_t n = std::min(chunk, outputs - t);
    const T* gradient = dy.window(t, n, work);
    if (dbias != nullptr) *dbias += dot<T>(gradient, nullptr, n);
    if (dweight == nullptr) continue;
    const T* from = x.window(t - g.left, n + g.span(), work + chunk);
    for (int64_t k = 0; k < g.taps; ++k) dweight[k] += dot(gradient, from + k * g.dilation, n);
  }
}

void depthwise_conv1d_grad(ConstView x, ConstView weight, ConstView dy, View dx, View dweight, View dbias, int64_t left,
                           int64_t dilation) {
  visit_float(x.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const Geometry g{weight.size(1), left, dilation};
    const auto from = signal<S>(x), gradient = signal<S>(dy);
    const auto to = signal<S>(dx);
    T* const dw = dweight.defined() ? dweight.data<T>() : nullptr;
    T* const db = dbias.defined() ? dbias.data<T>() : nullptr;
    if (dw != nullptr) std::fill(dw, dw + weight.numel(), T(0));
    if (db != nullptr) std::fill(db, db + x.size(1), T(0));
    for_rows<S>(x, g, [&](int64_t b, int64_t c, int64_t next_b, int64_t next_c, T* work) {
      from.row(next_b, next_c).expect(0, x.size(2));
      gradient.row(next_b, next_c).expect(0, dy.size(2));
      to.row(next_b, next_c).expect(0, x.size(2));
      if (to.row(b, c)) {  // correlated with the filter from its end, dy gives dx
        T* const reversed = work + 2 * chunk + g.span();
        std::reverse_copy(weight.data<T>() + c * g.taps, weight.data<T>() + (c + 1) * g.taps, reversed);
        const Geometry back{g.taps, g.span() - g.left, g.dilation};
        forward_row(gradient.row(b, c), reversed, T(0), to.row(b, c), x.size(2), back, work);
      }
      add_weight_gradients(from.row(b, c), gradient.row(b, c), dw == nullptr ? dw : dw + c * g.taps,
                           db == nullptr ? db : db + c, dy.size(2), g, work);
    });
  });
}

const Registered registered_depthwise_conv1d(DeviceType::cpu, kernels::depthwise_conv1d, depthwise_conv1d);
const Registered registered_depthwise_conv1d_grad(DeviceType::cpu, kernels::depthwise_conv1d_grad,
                                                  depthwise_conv1d_grad);

}  // namespace
}  // namespace mahia::cpu
