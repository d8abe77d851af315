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
struct Forward : ForwardRows<S> {
  using T = compute_t<S>;
  using ForwardRows<S>::ForwardRows, ForwardRows<S>::u, ForwardRows<S>::gate_before, ForwardRows<S>::gate_after;
  static constexpr int width = lane_count<T>;

  void row(const FftPlan<T>& plan, int64_t b, int64_t d, const Complex<T>* filter, Complex<T>* x) {
    const auto from = u.row(b, d), before = gate_before.row(b, d);
    const auto to = this->y.row(b, d), plain = this->ungated.row(b, d);
    const auto next_from = u.next(b, d), next_before = gate_before.next(b, d), next_after = gate_after.stored(b, d);
    read_row(plan, x, [=](int64_t t) { return before ? from.load(t) * before.load(t) : from.load(t); });
    walk(plan, {x}, x, [=](int64_t begin, int64_t end) {
      const int64_t t = begin * width, n = (end - begin) * width;
      for (const auto& soon : {next_from, next_before, next_after}) soon.expect(t, n);
      for (const auto& soon : {to, plain}) soon.expect(t, n);
      for (int64_t i = begin; i < end; ++i) x[i] = x[i] * filter[i];
    });
    const auto after = gate_after.row(b, d);
    write_row(plan, x, [=](int64_t t, Vec<T> value) {
      if (plain) plain.store(t, value);
      to.store(t, after ? value * after.load(t) : value);
    });
  }
};

void long_conv_fft(const LongConvOperands& from, View y, View ungated) {
  visit_float(y.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const FftPlan<T>& plan = plan_for<T>(y);
    parallel_rows(y.size(1), 1, [&](int64_t begin, int64_t end) {
      const Scratch scratch(y.device(), 2 * static_cast<size_t>(plan.size) * 2 * sizeof(T));
      auto* filter = scratch.data<Complex<T>>();
      auto* x = filter + plan.size / lane_count<T>;
      Forward<S> forward(from, y, ungated);
      for (int64_t d = begin; d < end; ++d) {
        filter_spectrum(plan, from.h, from.skip, d, filter);
        for (int64_t b = 0; b < y.size(0); ++b) forward.row(plan, b, d, filter, x);
      }
    });
  });
}

template <class S>
struct Backward : BackwardRows<S> {
  using T = compute_t<S>;
  using BackwardRows<S>::BackwardRows, BackwardRows<S>::u, BackwardRows<S>::gate_before, BackwardRows<S>::gate_after;
  using BackwardRows<S>::du, BackwardRows<S>::dgate_before, BackwardRows<S>::dgate_after;
  static constexpr int width = lane_count<T>;

  // With r = dy * gate_after and v = u * gate_before: r becomes the gradient of v, which is r correlated with the
  // filter, and the spectrum of v correlated with r is added to `sum`.
  void row(const FftPlan<T>& plan, int64_t b, int64_t d, const Complex<T>* filter, Complex<T>* r, Complex<T>* v,
           Complex<T>* sum) {
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
  void row_of_signal(const FftPlan<T>& plan, int64_t b, int64_t d, const Complex<T>* filter, Complex<T>* r) {
    read_gradient(plan, b, d, r);
    walk(plan, {r}, r, [=, this](int64_t begin, int64_t end) {
      expect(b, d, begin * width, (end - begin) * width);
      for (int64_t i = begin; i < end; ++i) r[i] = conj_times(filter[i], r[i]);
    });
    write_gradients(plan, b, d, r);
  }

 private:
  void read_gradient(const FftPlan<T>& plan, int64_t b, int64_t d, Complex<T>* r) {
    const auto from = this->dy.row(b, d), after = gate_after.row(b, d), plain = this->ungated.row(b, d);
    const auto dafter = dgate_after.row(b, d);
    read_row(plan, r, [=](int64_t t) {
      const Vec<T> value = from.load(t);
      if (dafter) dafter.store(t, value * plain.load(t));
      return after ? value * after.load(t) : value;
    });
    dgate_after.finish(b, d);
  }

  void write_gradients(const FftPlan<T>& plan, int64_t b, int64_t d, const Complex<T>* r) {
    const auto to = du.row(b, d), dbefore = dgate_before.row(b, d);
    const auto from = dbefore ? u.row(b, d) : Row<const S>(), before = to ? gate_before.row(b, d) : Row<const S>();
    write_row(plan, r, [=](int64_t t, Vec<T> value) {
      if (dbefore) dbefore.store(t, value * from.load(t));
      if (to) to.store(t, before ? value * before.load(t) : value);
    });
    du.finish(b, d);
    dgate_before.finish(b, d);
  }

  void expect(int64_t b, int64_t d, int64_t t, int64_t n) const {
    for (const auto* input : {&u, &gate_before, &gate_after}) input->next(b, d).expect(t, n);
    for (const auto* input : {&this->ungated, &this->dy}) input->next(b, d).expect(t, n);
    for (const auto* output : {&du, &dgate_before}) output->stored(b, d).expect(t, n);
    dgate_after.next(b, d).expect(t, n);
  }
};

template <class T>
void write_filter(const FftPlan<T>& plan, const View& dh, int64_t d, Complex<T>* sum, int64_t time) {
  walk(plan, {}, sum, leave_as_is);
  const int64_t taps = dh.size(1), reached = std::min(taps, time);
  T* const first = dh.data<T>() + d * taps;
  const Row<T> filter(first, reached);
  const Vec<T> scale = Lanes<T>::all(T(1) / static_cast<T>(plan.size));
  write_row(plan, sum, [=](int64_t t, Vec<T> value) { filter.store(t, scale * value); });
  std::fill(first + reached, first + taps, T(0));
}

void long_conv_fft_grad(const LongConvOperands& from, ConstView ungated, ConstView dy, const LongConvGradients& to) {
  visit_float(dy.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const FftPlan<T>& plan = plan_for<T>(dy);
    const int64_t batch = dy.size(0), vectors = plan.size / lane_count<T>;
    parallel_rows(dy.size(1), 1, [&](int64_t begin, int64_t end) {
      const Scratch scratch(dy.device(), 4 * static_cast<size_t>(plan.size) * 2 * sizeof(T));
      auto* filter = scratch.data<Complex<T>>();
      Complex<T>*r = filter + vectors, *v = r + vectors, *sum = v + vectors;
      Backward<S> backward(from, ungated, dy, to);
      for (int64_t d = begin; d < end; ++d) {
        filter_spectrum(plan, from.h, from.skip, d, filter);
        if (!to.h.defined()) {
          for (int64_t b = 0; b < batch; ++b) backward.row_of_signal(plan, b, d, filter, r);
          continue;
        }
        std::fill(sum, sum + vectors, Complex<T>());
        for (int64_t b = 0; b < batch; ++b) backward.row(plan, b, d, filter, r, v, sum);
        write_filter(plan, to.h, d, sum, dy.size(2));
      }
    });
  });
}

void long_conv(ConstView u, ConstView h, ConstView skip, ConstView gate_before, ConstView gate_after, View y,
               View ungated, ConvAlgorithm algorithm) {
  gated_long_conv({{u, {}, {}}, {gate_before, {}, {}}, {gate_after, {}, {}}, h, skip}, y, ungated, algorithm);
}

void long_conv_grad(ConstView u, ConstView h, ConstView skip, ConstView gate_before, ConstView gate_after,
                    ConstView ungated, ConstView dy, View du, View dh, View dgate_before, View dgate_after,
                    ConvAlgorithm algorithm) {
  gated_long_conv_grad({{u, {}, {}}, {gate_before, {}, {}}, {gate_after, {}, {}}, h, skip}, ungated, dy,
                       {{du, {}, {}}, {dgate_before, {}, {}}, {dgate_after, {}, {}}, dh}, algorithm);
}

const Registered registered_long_conv(DeviceType::cpu, kernels::long_conv, long_conv);
const Registered registered_long_conv_grad(DeviceType::cpu, kernels::long_conv_grad, long_conv_grad);

}  // namespace

void gated_long_conv(const LongConvOperands& from, View y, View ungated, ConvAlgorithm algorithm) {
  auto* const form = algorithm == ConvAlgorithm::direct   ? long_conv_direct
                     : algorithm == ConvAlgorithm::dyadic ? long_conv_dyadic
                                                          : long_conv_fft;
  form(from, y, ungated);
}

void gated_long_conv_grad(const LongConvOperands& from, ConstView ungated, ConstView dy, const LongConvGradients& to,
                          ConvAlgorithm algorithm) {
  auto* const form = algorithm == ConvAlgorithm::direct   ? long_conv_direct_grad
                     : algorithm == ConvAlgorithm::dyadic ? long_conv_dyadic_grad
                                                          : long_conv_fft_grad;
  form(from, ungated, dy, to);
}

}  // namespace mahia::cpu
