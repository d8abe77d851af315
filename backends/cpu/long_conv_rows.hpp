// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cpu/signal.hpp"

// What the forms of long_conv that work on whole rows in scratch share: how rows are read, gated and written, and the
// functions that long_conv.cpp chooses from.
namespace mahia::cpu {

void long_conv_direct(ConstView u, ConstView h, ConstView skip, ConstView gate_before, ConstView gate_after, View y,
                      View ungated);
void long_conv_direct_grad(ConstView u, ConstView h, ConstView skip, ConstView gate_before, ConstView gate_after,
                           ConstView ungated, ConstView dy, View du, View dh, View dgate_before, View dgate_after);
void long_conv_dyadic(ConstView u, ConstView h, ConstView skip, ConstView gate_before, ConstView gate_after, View y,
                      View ungated);
void long_conv_dyadic_grad(ConstView u, ConstView h, ConstView skip, ConstView gate_before, ConstView gate_after,
                           ConstView ungated, ConstView dy, View du, View dh, View dgate_before, View dgate_after);

// Rows in scratch are `length` numbers, at least the signal's and a multiple of a vector; zero behind the signal.
template <class S>
struct ForwardRows {
  using T = compute_t<S>;
  static constexpr int width = lane_count<T>;
  Signal<const S> u, gate_before, gate_after;
  Signal<S> y, ungated;

  // v = u * gate_before
  void read(int64_t b, int64_t d, T* v, int64_t length) const {
    const auto from = u.row(b, d), before = gate_before.row(b, d);
    for (int64_t t = 0; t < length; t += width) {
      Lanes<T>::store(v + t, before ? from.load(t) * before.load(t) : from.load(t));
    }
  }

  // ungated = sums, y = sums * gate_after
  void write(int64_t b, int64_t d, const T* sums) const {
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
  Signal<const S> u, gate_before, gate_after, ungated, dy;
  Signal<S> du, dgate_before, dgate_after;

  // v = u * gate_before
  void read_signal(int64_t b, int64_t d, T* v, int64_t length) const {
    ForwardRows<S>{u, gate_before, {}, {}, {}}.read(b, d, v, length);
  }

  // r = dy * gate_after; dgate_after = dy * ungated
  void read_gradient(int64_t b, int64_t d, T* r, int64_t length) const {
    const auto from = dy.row(b, d), after = gate_after.row(b, d), plain = ungated.row(b, d);
    const auto dafter = dgate_after.row(b, d);
    for (int64_t t = 0; t < length; t += width) {
      const Vec<T> value = from.load(t);
      if (dafter) dafter.store(t, value * plain.load(t));
      Lanes<T>::store(r + t, after ? value * after.load(t) : value);
    }
  }

  // du = dv * gate_before; dgate_before = dv * u
  void write(int64_t b, int64_t d, const T* dv) const {
    const auto from = u.row(b, d), before = gate_before.row(b, d);
    const auto to = du.row(b, d), dbefore = dgate_before.row(b, d);
    for (int64_t t = 0; t < from.length(); t += width) {
      const Vec<T> value = Lanes<T>::load(dv + t);
      if (dbefore) dbefore.store(t, value * from.load(t));
      if (to) to.store(t, before ? value * before.load(t) : value);
    }
  }
};

}  // namespace mahia::cpu
