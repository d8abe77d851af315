// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cpu/fft_lanes.hpp"

namespace mahia::cpu {

// A butterfly of radix R splits a polynomial modulo z^n - r into its remainders modulo z^(n/R) - s for the R roots s of
// s^R = r, given as one root p and its turns, all angles clockwise (-i is a quarter turn):
//   R = 2: p, -p    R = 4: p, -p, -ip, ip    R = 8: those four, then the same of ep with e = exp(-i pi/4)
//   R = 3, 5: p, pw, pw^2, ... with w = exp(-2 pi i/R).
// `split` takes coefficients x[0..R), complex or real, to remainders y[0..R); `merge` is its inverse times R.
// `t` holds the twiddles   R = 2: p    R = 4: p^2, p    R = 8: p^4, p^2, p, ep    R = 3, 5: p, p^2, ..., p^(R-1).
template <int R>
struct Butterfly;

template <int R>
inline constexpr int twiddle_count = R == 8   ? 4
                                     : R == 4 ? 2
                                              : R - 1;

// The scalars of one node, re and im in turn, in all lanes of t.
template <int R, class T>
[[gnu::always_inline]] inline void load_twiddles(const T* scalars, Complex<T>* t) {
  for (int m = 0; m < twiddle_count<R>; ++m) t[m] = {Lanes<T>::all(scalars[2 * m]), Lanes<T>::all(scalars[2 * m + 1])};
}

// The whole polynomial at once: only turns a row into complex numbers and back.
template <>
struct Butterfly<1> {
  template <class X, class T>
  [[gnu::always_inline]] static void split(const X* x, const Complex<T>*, Complex<T>* y) {
    y[0] = x[0] + Complex<T>{};
  }
  template <class T>
  [[gnu::always_inline]] static void merge(const Complex<T>* y, const Complex<T>*, Complex<T>* x) {
    x[0] = y[0];
  }
};

template <>
struct Butterfly<2> {
  template <class X, class T>
  [[gnu::always_inline]] static void split(const X* x, const Complex<T>* t, Complex<T>* y) {
    const Complex<T> b = x[1] * t[0];
    y[0] = x[0] + b;
    y[1] = x[0] - b;
  }
  template <class T>
  [[gnu::always_inline]] static void merge(const Complex<T>* y, const Complex<T>* t, Complex<T>* x) {
    x[0] = y[0] + y[1];
    x[1] = conj_times(t[0], y[0] - y[1]);
  }
};

template <>
struct Butterfly<4> {
  template <class X, class T>
  [[gnu::always_inline]] static void split(const X* x, const Complex<T>* t, Complex<T>* y) {
    const Complex<T> b2 = x[2] * t[0], b3 = x[3] * t[0];
    const Complex<T> u0 = x[0] + b2, u1 = (x[1] + b3) * t[1];
    const Complex<T> v0 = x[0] - b2, v1 = turn((x[1] - b3) * t[1]);
    y[0] = u0 + u1;
    y[1] = u0 - u1;
    y[2] = v0 + v1;
    y[3] = v0 - v1;
  }
  template <class T>
  [[gnu::always_inline]] static void merge(const Complex<T>* y, const Complex<T>* t, Complex<T>* x) {
    const Complex<T> u0 = y[0] + y[1], u1 = conj_times(t[1], y[0] - y[1]);
    const Complex<T> v0 = y[2] + y[3], v1 = turn_back(conj_times(t[1], y[2] - y[3]));
    x[0] = u0 + v0;
    x[1] = u1 + v1;
    x[2] = conj_times(t[0], u0 - v0);
    x[3] = conj_times(t[0], u1 - v1);
  }
};

template <>
struct Butterfly<8> {
  template <class X, class T>
  [[gnu::always_inline]] static void split(const X* x, const Complex<T>* t, Complex<T>* y) {
    Complex<T> u[4], v[4];
    for (int k = 0; k < 4; ++k) {
      const Complex<T> b = x[k + 4] * t[0];
      u[k] = x[k] + b;
      v[k] = x[k] - b;
    }
    const Complex<T> of_u[2] = {t[1], t[2]}, of_v[2] = {turn(t[1]), t[3]};
    Butterfly<4>::split(u, of_u, y);
    Butterfly<4>::split(v, of_v, y + 4);
  }
  template <class T>
  [[gnu::always_inline]] static void merge(const Complex<T>* y, const Complex<T>* t, Complex<T>* x) {
    Complex<T> u[4], v[4];
    const Complex<T> of_u[2] = {t[1], t[2]}, of_v[2] = {turn(t[1]), t[3]};
    Butterfly<4>::merge(y, of_u, u);
    Butterfly<4>::merge(y + 4, of_v, v);
    for (int k = 0; k < 4; ++k) {
      x[k] = u[k] + v[k];
      x[k + 4] = conj_times(t[0], u[k] - v[k]);
    }
  }
};

template <>
struct Butterfly<3> {
  template <class X, class T>
  [[gnu::always_inline]] static void split(const X* x, const Complex<T>* t, Complex<T>* y) {
    const Complex<T> turned[3] = {x[0] + Complex<T>{}, x[1] * t[0], x[2] * t[1]};
    transform(turned, T(-1), y);
  }
  template <class T>
  [[gnu::always_inline]] static void merge(const Complex<T>* y, const Complex<T>* t, Complex<T>* x) {
    transform(y, T(1), x);
    for (int k = 1; k < 3; ++k) x[k] = conj_times(t[k - 1], x[k]);
  }

 private:
  // Three values against the powers of exp(sign 2 pi i/3).
  template <class T>
  [[gnu::always_inline]] static void transform(const Complex<T>* x, T sign, Complex<T>* y) {
    const auto half = Lanes<T>::all(T(0.5)), sine = Lanes<T>::all(sign * T(0.86602540378443864676));
    const Complex<T> sum = x[1] + x[2], even = x[0] - half * sum, odd = turn_back(sine * (x[1] - x[2]));
    y[0] = x[0] + sum;
    y[1] = even + odd;
    y[2] = even - odd;
  }
};

template <>
struct Butterfly<5> {
  template <class X, class T>
  [[gnu::always_inline]] static void split(const X* x, const Complex<T>* t, Complex<T>* y) {
    const Complex<T> turned[5] = {x[0] + Complex<T>{}, x[1] * t[0], x[2] * t[1], x[3] * t[2], x[4] * t[3]};
    transform(turned, T(-1), y);
  }
  template <class T>
  [[gnu::always_inline]] static void merge(const Complex<T>* y, const Complex<T>* t, Complex<T>* x) {
    transform(y, T(1), x);
    for (int k = 1; k < 5; ++k) x[k] = conj_times(t[k - 1], x[k]);
  }

 private:
  // Five values against the powers of exp(sign 2 pi i/5).
  template <class T>
  [[gnu::always_inline]] static void transform(const Complex<T>* x, T sign, Complex<T>* y) {
    const auto cos1 = Lanes<T>::all(T(0.30901699437494742410)), sin1 = Lanes<T>::all(sign * T(0.95105651629515357212));
    const auto cos2 = Lanes<T>::all(T(-0.80901699437494742410)), sin2 = Lanes<T>::all(sign * T(0.58778525229247312917));
    const Complex<T> sum1 = x[1] + x[4], sum2 = x[2] + x[3], difference1 = x[1] - x[4], difference2 = x[2] - x[3];
    const Complex<T> even1 = x[0] + (cos1 * sum1 + cos2 * sum2), even2 = x[0] + (cos2 * sum1 + cos1 * sum2);
    const Complex<T> odd1 = turn_back(sin1 * difference1 + sin2 * difference2);
    const Complex<T> odd2 = turn_back(sin2 * difference1 - sin1 * difference2);
    y[0] = x[0] + (sum1 + sum2);
    y[1] = even1 + odd1;
    y[2] = even2 + odd2;
    y[3] = even2 - odd2;
    y[4] = even1 - odd1;
  }
};

}  // namespace mahia::cpu
