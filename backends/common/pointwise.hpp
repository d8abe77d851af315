// SPDX-License-Identifier: Apache-2.0
#pragma once

#ifdef __CUDACC__
#define MAHIA_HD __host__ __device__
#else
#define MAHIA_HD [[gnu::always_inline]] inline
#endif

// The formulas of ops/pointwise, one struct each, shared by all backends. T is float or double; M brings the backend's
// exp, log, log1p, sin, cos, tanh, sqrt, fma and normal_cdf. `slope` is the derivative, in the input x or the output y
// as its argument says. a and b are the op's numbers.
namespace mahia::formula {

template <class M, class T>
struct Abs {
  T a, b;
  MAHIA_HD T value(T x) const { return x < 0 ? -x : x + 0; }  // -0 becomes 0
  MAHIA_HD T slope(T x) const { return x > 0 ? T(1) : x < 0 ? T(-1) : T(0); }
};

template <class M, class T>
struct Exp {
  T a, b;
  MAHIA_HD T value(T x) const { return M::exp(x); }
  MAHIA_HD T slope(T y) const { return y; }
};

template <class M, class T>
struct Log {
  T a, b;
  MAHIA_HD T value(T x) const { return M::log(x); }
  MAHIA_HD T slope(T x) const { return 1 / x; }
};

template <class M, class T>
struct Sqrt {
  T a, b;
  MAHIA_HD T value(T x) const { return M::sqrt(x); }
  MAHIA_HD T slope(T y) const { return T(0.5) / y; }
};

template <class M, class T>
struct Rsqrt {
  T a, b;
  MAHIA_HD T value(T x) const { return 1 / M::sqrt(x); }
  MAHIA_HD T slope(T y) const { return T(-0.5) * y * y * y; }
};

template <class M, class T>
struct Sin {
  T a, b;
  MAHIA_HD T value(T x) const { return M::sin(x); }
  MAHIA_HD T slope(T x) const { return M::cos(x); }
};

template <class M, class T>
struct Cos {
  T a, b;
  MAHIA_HD T value(T x) const { return M::cos(x); }
  MAHIA_HD T slope(T x) const { return -M::sin(x); }
};

template <class M, class T>
struct Tanh {
  T a, b;
  MAHIA_HD T value(T x) const { return M::tanh(x); }
  MAHIA_HD T slope(T y) const { return 1 - y * y; }
};

// top / (1 + e) for 0 <= e <= 1, rounded almost once: one Newton step with the exact remainder.
template <class M, class T>
MAHIA_HD T over_one_plus(T top, T e) {
  const T sum = 1 + e, inverse = 1 / sum;
  const T quotient = top * inverse;
  const T rest = M::fma(-quotient, sum, top) - quotient * (e - (sum - 1));
  return M::fma(rest, inverse, quotient);
}

// 1 / (1 + exp(-x)), written so that neither tail overflows or loses digits.
template <class M, class T>
MAHIA_HD T logistic(T x) {
  const T e = M::exp(x < 0 ? x : -x);
  return over_one_plus<M>(x < 0 ? e : T(1), e);
}

template <class M, class T>
struct Sigmoid {
  T a, b;
  MAHIA_HD T value(T x) const { return logistic<M>(x); }
  MAHIA_HD T slope(T y) const { return y * (1 - y); }
};

template <class M, class T>
struct Relu {
  T a, b;
  MAHIA_HD T value(T x) const { return x < 0 ? T(0) : x; }
  MAHIA_HD T slope(T y) const { return y > 0 ? T(1) : T(0); }
};

template <class M, class T>
struct Silu {
  T a, b;
  MAHIA_HD T value(T x) const { return x * logistic<M>(x); }
  MAHIA_HD T slope(T x) const {
    const T s = logistic<M>(x);
    return s * (1 + x * (1 - s));
  }
};

// a is beta, b the threshold of beta x above which the function is x itself.
template <class M, class T>
struct Softplus {
  T a, b;
  MAHIA_HD T value(T x) const {
    const T v = a * x;
    const T soft = ((v > 0 ? v : T(0)) + M::log1p(M::exp(v < 0 ? v : -v))) / a;
    return v > b ? x : soft;
  }
  MAHIA_HD T slope(T x) const {
    const T soft = logistic<M>(a * x);
    return a * x > b ? T(1) : soft;
  }
};

// x Phi(x), Phi the distribution function of the standard normal.
template <class M, class T>
struct Gelu {
  T a, b;
  MAHIA_HD T value(T x) const { return x * M::normal_cdf(x); }
  MAHIA_HD T slope(T x) const {
    const T density = T(0.3989422804014327) * M::exp(T(-0.5) * x * x);
    return M::normal_cdf(x) + x * density;
  }
};

// x sigmoid(v), v = 2 sqrt(2 / pi) (x + 0.044715 x^3): Phi's approximation by tanh. The error of v is carried along,
// since exp multiplies it by v.
template <class M, class T>
struct GeluTanh {
  T a, b;
  static constexpr double linear = 1.5957691216057308, cubic = 0.07135481627260025;

  // Beyond these bounds the gate is 0 or 1, and powers of x would overflow.
  MAHIA_HD static T bounded(T x) { return x < T(-32) ? T(-32) : x > T(32) ? T(32) : x; }
  MAHIA_HD T gate(T x) const {
    x = bounded(x);
    const T c1 = T(linear), c3 = T(cubic);
    const T square = x * x, square_error = M::fma(x, x, -square);
    const T term = c3 * square, term_error = M::fma(c3, square, -term);
    const T sum = c1 + term, large = c1 > term ? c1 : term, small = c1 > term ? term : c1;
    const T error = ((large - sum) + small) + term_error + c3 * square_error + T(linear - double(c1)) +
                    T(cubic - double(c3)) * square;
    const T v = x * sum, v_error = M::fma(x, sum, -v) + x * error;
    const T e = M::exp(v < 0 ? v : -v);
    const T corrected = M::fma(e, v < 0 ? v_error : -v_error, e);
    return over_one_plus<M>(v < 0 ? corrected : T(1), corrected);
  }
  MAHIA_HD T value(T x) const { return x * gate(x); }
  MAHIA_HD T slope(T x) const {
    const T s = gate(x);
    const T near = bounded(x);
    return s * (1 + near * (1 - s) * (T(linear) + 3 * T(cubic) * near * near));
  }
};

// a and b are the bounds; NaN stays NaN.
template <class M, class T>
struct Clamp {
  T a, b;
  MAHIA_HD T value(T x) const { return x < a ? a : x > b ? b : x; }
  MAHIA_HD T slope(T x) const { return x < a || x > b ? T(0) : T(1); }
};

}  // namespace mahia::formula
