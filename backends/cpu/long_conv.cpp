// SPDX-License-Identifier: Apache-2.0
#include "ops/long_conv.hpp"

#include <algorithm>

#include "backends/cpu/fft_walk.hpp"
#include "backends/cpu/long_conv_rows.hpp"
#include "backends/cpu/signal.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"

// One channel is one task: its filter's spectrum stays in the cache while the rows of the batch pass, and the gradient
// of the filter is summed over them in order. A row's result depends on that row and its channel alone.
// One complex transform of length T' >= T per row and direction (see FftPlan), two forward and three backward. With
// gates, forward and backward together reach 49 GFLOP/s at (B, D, T) = (8, 256, 1024), where 52 bytes an element come
// from and go to memory, and 79 at (1, 64, 131072): `./dev bench`, two cores of an AVX2-only EPYC 7003.
namespace mahia::cpu {
namespace {

template <class T>
const FftPlan<T>& plan_for(const ConstView& u) {
  return fft_plan<T>(fft_size(u.size(2)), FftPlan<T>::Roots::of_minus_i);
}

// The spectrum of a channel's filter, the skip weight folded into its first tap, over the size of the plan.
template <class T>
void filter_spectrum(const FftPlan<T>& plan, const ConstView& h, const ConstView& skip, int64_t channel,
                     Complex<T>* spectrum) {
  const int64_t taps = h.size(1);
  const Row<const T> filter(h.data<T>() + channel * taps, taps);
  const T direct = skip.defined() ? skip.data<T>()[channel] : T(0);
  const Vec<T> scale = Lanes<T>::all(T(1) / static_cast<T>(plan.size));
  read_row(plan, spectrum, [=](int64_t t) {
    Vec<T> v = filter.load(t);
    if (t == 0) v[0] += direct;
    return scale * v;
  });
  walk(plan, {spectrum}, {}, leave_as_is);
}

template <class S>
struct Forward {
  using T = compute_t<S>;
  static constexpr int width = lane_count<T>;
  Signal<const S> u, gate_before, gate_after;
  Signal<S> y, ungated;

  void row(const FftPlan<T>& plan, int64_t b, int64_t d, const Complex<T>* filter, Complex<T>* x) const {
    const auto from = u.row(b, d), before = gate_before.row(b, d), after = gate_after.row(b, d);
    const auto to = y.row(b, d), plain = ungated.row(b, d);
    const auto next_from = u.next(b, d), next_before = gate_before.next(b, d);
    read_row(plan, x, [=](int64_t t) { return before ? from.load(t) * before.load(t) : from.load(t); });
    walk(plan, {x}, x, [=](int64_t begin, int64_t end) {
      const int64_t t = begin * width, n = (end - begin) * width;
      for (const auto& soon : {next_from, next_before, after}) soon.expect(t, n);
      for (const auto& soon : {to, plain}) soon.expect(t, n);
      for (int64_t i = begin; i < end; ++i) x[i] = x[i] * filter[i];
    });
    write_row(plan, x, [=](int64_t t, Vec<T> value) {
      if (plain) plain.store(t, value);
      to.store(t, after ? value * after.load(t) : value);
    });
  }
};

void long_conv_fft(ConstView u, ConstView h, ConstView skip, ConstView gate_before, ConstView gate_after, View y,
                   View ungated) {
  visit_float(u.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const FftPlan<T>& plan = plan_for<T>(u);
    const Forward<S> forward{signal<S>(u), signal<S>(gate_before), signal<S>(gate_after), signal<S>(y),
                             signal<S>(ungated)};
    parallel_rows(u.size(1), 1, [&](int64_t begin, int64_t end) {
      const Scratch scratch(u.device(), 2 * static_cast<size_t>(plan.size) * 2 * sizeof(T));
      auto* filter = scratch.data<Complex<T>>();
      auto* x = filter + plan.size / lane_count<T>;
      for (int64_t d = begin; d < end; ++d) {
        filter_spectrum(plan, h, skip, d, filter);
        for (int64_t b = 0; b < u.size(0); ++b) forward.row(plan, b, d, filter, x);
      }
    });
  });
}

template <class S>
struct Backward {
  using T = compute_t<S>;
  static constexpr int width = lane_count<T>;
  Signal<const S> u, gate_before, gate_after, ungated, dy;
  Signal<S> du, dgate_before, dgate_after;
  View dh;

  // With r = dy * gate_after and v = u * gate_before: r becomes the gradient of v, which is r correlated with the
  // filter, and the spectrum of v correlated with r is added to `sum`.
  void row(const FftPlan<T>& plan, int64_t b, int64_t d, const Complex<T>* filter, Complex<T>* r, Complex<T>* v,
           Complex<T>* sum) const {
    read_gradient(plan, b, d, r);
    const auto from = u.row(b, d), before = gate_before.row(b, d);
    read_row(plan, v, [=](int64_t t) { return before ? from.load(t) * before.load(t) : from.load(t); });
    walk(plan, {r, v}, r, [=, this](int64_t begin, int64_t end) {
      expect(b, d, begin * width, (end - begin) * width);
      for (int64_t i = begin; i < end; ++i) {
        const Complex<T> gradient = r[i];
        sum[i] = sum[i] + conj_times(v[i], gradient);
        r[i] = conj_times(filter[i], gradient);
      }
    });
    write_gradients(plan, b, d, r);
  }

  // The same without the filter's gradient.
  void row_of_signal(const FftPlan<T>& plan, int64_t b, int64_t d, const Complex<T>* filter, Complex<T>* r) const {
    read_gradient(plan, b, d, r);
    walk(plan, {r}, r, [=, this](int64_t begin, int64_t end) {
      expect(b, d, begin * width, (end - begin) * width);
      for (int64_t i = begin; i < end; ++i) r[i] = conj_times(filter[i], r[i]);
    });
    write_gradients(plan, b, d, r);
  }

  void write_filter(const FftPlan<T>& plan, int64_t d, Complex<T>* sum, int64_t time) const {
    walk(plan, {}, sum, leave_as_is);
    const int64_t taps = dh.size(1), reached = std::min(taps, time);
    T* const first = dh.data<T>() + d * taps;
    const Row<T> filter(first, reached);
    const Vec<T> scale = Lanes<T>::all(T(1) / static_cast<T>(plan.size));
    write_row(plan, sum, [=](int64_t t, Vec<T> value) { filter.store(t, scale * value); });
    std::fill(first + reached, first + taps, T(0));
  }

 private:
  void read_gradient(const FftPlan<T>& plan, int64_t b, int64_t d, Complex<T>* r) const {
    const auto from = dy.row(b, d), after = gate_after.row(b, d), plain = ungated.row(b, d);
    const auto dafter = dgate_after.row(b, d);
    read_row(plan, r, [=](int64_t t) {
      const Vec<T> value = from.load(t);
      if (dafter) dafter.store(t, value * plain.load(t));
      return after ? value * after.load(t) : value;
    });
  }

  void write_gradients(const FftPlan<T>& plan, int64_t b, int64_t d, const Complex<T>* r) const {
    const auto from = u.row(b, d), before = gate_before.row(b, d);
    const auto to = du.row(b, d), dbefore = dgate_before.row(b, d);
    write_row(plan, r, [=](int64_t t, Vec<T> value) {
      if (dbefore) dbefore.store(t, value * from.load(t));
      if (to) to.store(t, before ? value * before.load(t) : value);
    });
  }

  void expect(int64_t b, int64_t d, int64_t t, int64_t n) const {
    for (const auto* input : {&u, &gate_before, &gate_after, &ungated, &dy}) input->next(b, d).expect(t, n);
    for (const auto* output : {&du, &dgate_before}) output->row(b, d).expect(t, n);
    dgate_after.next(b, d).expect(t, n);
  }
};

void long_conv_fft_grad(ConstView u, ConstView h, ConstView skip, ConstView gate_before, ConstView gate_after,
                        ConstView ungated, ConstView dy, View du, View dh, View dgate_before, View dgate_after) {
  visit_float(u.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const FftPlan<T>& plan = plan_for<T>(u);
    const int64_t vectors = plan.size / lane_count<T>;
    const Backward<S> backward{signal<S>(u),
                               signal<S>(gate_before),
                               signal<S>(gate_after),
                               signal<S>(ungated),
                               signal<S>(dy),
                               signal<S>(du),
                               signal<S>(dgate_before),
                               signal<S>(dgate_after),
                               dh};
    parallel_rows(u.size(1), 1, [&](int64_t begin, int64_t end) {
      const Scratch scratch(u.device(), 4 * static_cast<size_t>(plan.size) * 2 * sizeof(T));
      auto* filter = scratch.data<Complex<T>>();
      Complex<T>*r = filter + vectors, *v = r + vectors, *sum = v + vectors;
      for (int64_t d = begin; d < end; ++d) {
        filter_spectrum(plan, h, skip, d, filter);
        if (!dh.defined()) {
          for (int64_t b = 0; b < u.size(0); ++b) backward.row_of_signal(plan, b, d, filter, r);
          continue;
        }
        std::fill(sum, sum + vectors, Complex<T>());
        for (int64_t b = 0; b < u.size(0); ++b) backward.row(plan, b, d, filter, r, v, sum);
        backward.write_filter(plan, d, sum, u.size(2));
      }
    });
  });
}

void long_conv(ConstView u, ConstView h, ConstView skip, ConstView gate_before, ConstView gate_after, View y,
               View ungated, ConvAlgorithm algorithm) {
  auto* const form = algorithm == ConvAlgorithm::direct   ? long_conv_direct
                     : algorithm == ConvAlgorithm::dyadic ? long_conv_dyadic
                                                          : long_conv_fft;
  form(u, h, skip, gate_before, gate_after, y, ungated);
}

void long_conv_grad(ConstView u, ConstView h, ConstView skip, ConstView gate_before, ConstView gate_after,
                    ConstView ungated, ConstView dy, View du, View dh, View dgate_before, View dgate_after,
                    ConvAlgorithm algorithm) {
  auto* const form = algorithm == ConvAlgorithm::direct   ? long_conv_direct_grad
                     : algorithm == ConvAlgorithm::dyadic ? long_conv_dyadic_grad
                                                          : long_conv_fft_grad;
  form(u, h, skip, gate_before, gate_after, ungated, dy, du, dh, dgate_before, dgate_after);
}

const Registered registered_long_conv(DeviceType::cpu, kernels::long_conv, long_conv);
const Registered registered_long_conv_grad(DeviceType::cpu, kernels::long_conv_grad, long_conv_grad);

}  // namespace
}  // namespace mahia::cpu
