// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cpu/filtered_rows.hpp"
#include "backends/cpu/signal.hpp"
#include "ops/long_conv.hpp"

// What all forms of the gated long convolution share: their operands, and how rows are read, gated and written.
namespace mahia::cpu {

// v is u * gate_before.
struct LongConvOperands {
  FilteredView u, gate_before, gate_after;
  ConstView h, skip;
};
struct LongConvGradients {
  FilteredGradient u, gate_before, gate_after;
  View h;
};

// kernels::hyena_conv, and kernels::long_conv where nothing is filtered.
void gated_long_conv(const LongConvOperands& from, View y, View ungated, ConvAlgorithm algorithm);
void gated_long_conv_grad(const LongConvOperands& from, ConstView ungated, ConstView dy, const LongConvGradients& to,
                          ConvAlgorithm algorithm);
// The forms that these choose from, beside the transform of the whole row.
void long_conv_direct(const LongConvOperands& from, View y, View ungated);
void long_conv_direct_grad(const LongConvOperands& from, ConstView ungated, ConstView dy, const LongConvGradients& to);
void long_conv_dyadic(const LongConvOperands& from, View y, View ungated);
void long_conv_dyadic_grad(const LongConvOperands& from, ConstView ungated, ConstView dy, const LongConvGradients& to);

// Rows in scratch are `length` numbers, at least the signal's and a multiple of a vector; zero behind the signal.
template <class S>
struct ForwardRows {
  using T = compute_t<S>;
  static constexpr int width = lane_count<T>;
  InputRows<S> u, gate_before, gate_after;
  Signal<S> y, ungated;

  ForwardRows(const LongConvOperands& from, const View& y_, const View& ungated_)
      : u(from.u),
        gate_before(from.gate_before),
        gate_after(from.gate_after),
        y(signal<S>(y_)),
        ungated(signal<S>(ungated_)) {}

  // v = u * gate_before
  void read(int64_t b, int64_t d, T* v, int64_t length) {
    const auto from = u.row(b, d), before = gate_before.row(b, d);
    for (int64_t t = 0; t < length; t += width) {
      Lanes<T>::store(v + t, before ? from.load(t) * before.load(t) : from.load(t));
    }
  }

  // ungated = sums, y = sums * gate_after
  void write(int64_t b, int64_t d, const T* sums) {
    const auto to = y.row(b, d), plain = ungated.row(b, d);
    const auto after = gate_after.row(b, d);
    for (int64_t t = 0; t < to.length(); t += width) {
      const Vec<T> value = Lanes<T>::load(sums + t);
      if (plain) plain.store(t, value);
      to.store(t, after ? value * after.load(t) : value);
    }
  }
};

template <class S>
struct BackwardRows {
  using T = compute_t<S>;
  static constexpr int width = lane_count<T>;
  InputRows<S> u, gate_before, gate_after;
  Signal<const S> ungated, dy;
  GradientRows<S> du, dgate_before, dgate_after;

  BackwardRows(const LongConvOperands& from, const ConstView& ungated_, const ConstView& dy_,
               const LongConvGradients& to)
      : u(from.u),
        gate_before(from.gate_before),
        gate_after(from.gate_after),
        ungated(signal<S>(ungated_)),
        dy(signal<S>(dy_)),
        du(from.u, to.u),
        dgate_before(from.gate_before, to.gate_before),
        dgate_after(from.gate_after, to.gate_after) {}

  bool to_signal() const { return du.is_wanted() || dgate_before.is_wanted(); }

  // v = u * gate_before
  void read_signal(int64_t b, int64_t d, T* v, int64_t length) {
    const auto from = u.row(b, d), before = gate_before.row(b, d);
    for (int64_t t = 0; t < length; t += width) {
      Lanes<T>::store(v + t, before ? from.load(t) * before.load(t) : from.load(t));
    }
  }

  // r = dy * gate_after; dgate_after = dy * ungated
  void read_gradient(int64_t b, int64_t d, T* r, int64_t length) {
    const auto from = dy.row(b, d), after = gate_after.row(b, d), plain = ungated.row(b, d);
    const auto dafter = dgate_after.row(b, d);
    for (int64_t t = 0; t < length; t += width) {
      const Vec<T> value = from.load(t);
      if (dafter) dafter.store(t, value * plain.load(t));
      Lanes<T>::store(r + t, after ? value * after.load(t) : value);
    }
    dgate_after.finish(b, d);
  }

  // du = dv * gate_before; dgate_before = dv * u
  void write(int64_t b, int64_t d, const T* dv) {
    const auto to = du.row(b, d), dbefore = dgate_before.row(b, d);
    const auto from = dbefore ? u.row(b, d) : Row<const S>(), before = to ? gate_before.row(b, d) : Row<const S>();
    for (int64_t t = 0; t < dy.row(b, d).length(); t += width) {
      const Vec<T> value = Lanes<T>::load(dv + t);
      if (dbefore) dbefore.store(t, value * from.load(t));
      if (to) to.store(t, before ? value * before.load(t) : value);
    }
    du.finish(b, d);
    dgate_before.finish(b, d);
  }
};

}  // namespace mahia::cpu
