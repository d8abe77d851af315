// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "backends/cpu/long_conv_rows.hpp"
#include "backends/cpu/time_sums.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"

// One channel is one task. Blocks of outputs stay in registers while the taps pass: a product of a lower-triangular
// Toeplitz matrix. Some taps' products are added up in the signal's precision, their sums in f64. The gradient of the
// signal is the same product of rows turned round in time, that of the filter one with the gradient as the filter.
namespace mahia::cpu {
namespace {

constexpr int64_t taps_per_sum = 64;

// y[t - first] = sum_{k <= t, k < count} taps[k] v[t - k] for t in [first, last). v has sum_width zeros before it, and
// as many readable numbers behind `last`; y has room for as many.
template <class T>
void convolve(const T* taps, int64_t count, const T* v, int64_t first, int64_t last, T* y) {
  constexpr int width = sum_width<T>;
  for (int64_t t = first; t < last; t += width) {
    const int64_t reached = std::min(count, t + width);
    T* const sum = y + t - first;
    products(taps, std::min(taps_per_sum, reached), v + t, width, sum);
    if (reached <= taps_per_sum) continue;
    double totals[width];
    std::copy_n(sum, width, totals);
    for (int64_t k = taps_per_sum; k < reached; k += taps_per_sum) {
      products(taps + k, std::min(taps_per_sum, reached - k), v + t - k, width, sum);
      for (int j = 0; j < width; ++j) totals[j] += static_cast<double>(sum[j]);
    }
    for (int j = 0; j < width; ++j) sum[j] = static_cast<T>(totals[j]);
  }
}

int64_t whole_vectors(int64_t time, int64_t width) { return (time + width - 1) / width * width; }

// A channel's taps with the skip weight in the first.
template <class T>
void read_taps(const ConstView& h, const ConstView& skip, int64_t d, int64_t count, T* taps) {
  std::copy_n(h.data<T>() + d * h.size(1), count, taps);
  if (skip.defined()) taps[0] += skip.data<T>()[d];
}

// Rows of one length in scratch, each with a block of zeros before it and one behind.
template <class T>
class PaddedRows {
 public:
  PaddedRows(int64_t time, int count)
      : length_(whole_vectors(time, sum_width<T>)),
        pitch_(length_ + 2 * sum_width<T>),
        scratch_(cpu_device, static_cast<size_t>(count * pitch_) * sizeof(T)) {
    std::fill_n(scratch_.template data<T>(), count * pitch_, T(0));
  }
  int64_t length() const { return length_; }
  T* row(int i) const { return scratch_.template data<T>() + i * pitch_ + sum_width<T>; }

 private:
  int64_t length_, pitch_;
  Scratch scratch_;
};

template <class S>
struct Gradient {
  using T = compute_t<S>;
  BackwardRows<S>& rows;
  View dh;
  int64_t batch, time;

  // `reversed` is the gradient of the convolution's result turned round in time.
  void row_of_signal(int64_t b, int64_t d, const T* taps, int64_t count, const T* reversed, T* y, T* dv) const {
    convolve(taps, count, reversed, 0, time, y);
    std::reverse_copy(y, y + time, dv);
    rows.write(b, d, dv);
  }

  void add_filter_row(int64_t reached, const T* reversed, const T* v, T* y, double* sums) const {
    convolve(reversed, time, v, time - reached, time, y);
    for (int64_t k = 0; k < reached; ++k) sums[k] += static_cast<double>(y[reached - 1 - k]);
  }

  void channel(int64_t d, const T* taps, int64_t count, bool to_signal) const {
    const PaddedRows<T> padded(time, 4);
    T *const v = padded.row(0), *const r = padded.row(1), *const reversed = padded.row(2), *const y = padded.row(3);
    const int64_t wanted = dh.defined() ? dh.size(1) : 0, reached = std::min(wanted, time);
    const Scratch scratch(cpu_device, static_cast<size_t>(reached) * sizeof(double));
    double* const sums = scratch.data<double>();
    std::fill_n(sums, reached, 0.0);
    for (int64_t b = 0; b < batch; ++b) {
      rows.read_gradient(b, d, r, padded.length());
      std::reverse_copy(r, r + time, reversed);
      if (to_signal) row_of_signal(b, d, taps, count, reversed, y, v);
      if (wanted == 0) continue;
      rows.read_signal(b, d, v, padded.length());
      add_filter_row(reached, reversed, v, y, sums);
    }
    if (wanted == 0) return;
    T* const to = dh.data<T>() + d * wanted;
    std::transform(sums, sums + reached, to, [](double sum) { return static_cast<T>(sum); });
    std::fill(to + reached, to + wanted, T(0));
  }
};

}  // namespace

void long_conv_direct(const LongConvOperands& from, View y, View ungated) {
  visit_float(y.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const int64_t time = y.size(2), count = std::min(from.h.size(1), whole_vectors(time, sum_width<T>));
    parallel_rows(y.size(1), 1, [&](int64_t begin, int64_t end) {
      const PaddedRows<T> padded(time, 2);
      const Scratch scratch(y.device(), static_cast<size_t>(count) * sizeof(T));
      T *const v = padded.row(0), *const sums = padded.row(1), *const taps = scratch.data<T>();
      ForwardRows<S> rows(from, y, ungated);
      for (int64_t d = begin; d < end; ++d) {
        read_taps(from.h, from.skip, d, count, taps);
        for (int64_t b = 0; b < y.size(0); ++b) {
          rows.read(b, d, v, padded.length());
          convolve(taps, count, v, 0, time, sums);
          rows.write(b, d, sums);
        }
      }
    });
  });
}

void long_conv_direct_grad(const LongConvOperands& from, ConstView ungated, ConstView dy, const LongConvGradients& to) {
  visit_float(dy.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const int64_t time = dy.size(2), count = std::min(from.h.size(1), whole_vectors(time, sum_width<T>));
    parallel_rows(dy.size(1), 1, [&](int64_t begin, int64_t end) {
      const Scratch scratch(dy.device(), static_cast<size_t>(count) * sizeof(T));
      T* const taps = scratch.data<T>();
      BackwardRows<S> rows(from, ungated, dy, to);
      const Gradient<S> gradient{rows, to.h, dy.size(0), time};
      for (int64_t d = begin; d < end; ++d) {
        read_taps(from.h, from.skip, d, count, taps);
        gradient.channel(d, taps, count, rows.to_signal());
      }
    });
  });
}

}  // namespace mahia::cpu
