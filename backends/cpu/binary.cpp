// SPDX-License-Identifier: Apache-2.0
#include "ops/binary.hpp"

#include <cmath>

#include "backends/cpu/elementwise.hpp"

namespace mahia::cpu {
namespace {

// Integer arithmetic wraps around, in an unsigned type; bool computes as int.
template <class T, class Fn>
T arithmetic(T a, T b, Fn&& fn) {
  if constexpr (std::is_same_v<T, bool>) {
    return fn(static_cast<int>(a), static_cast<int>(b)) != 0;
  } else if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    return static_cast<T>(fn(static_cast<U>(a), static_cast<U>(b)));
  } else {
    return convert<T>(fn(convert<compute_t<T>>(a), convert<compute_t<T>>(b)));
  }
}

struct Add {
  template <class T>
  T operator()(T a, T b) const {
    return arithmetic(a, b, [](auto x, auto y) { return x + y; });
  }
};
struct Sub {
  template <class T>
  T operator()(T a, T b) const {
    return arithmetic(a, b, [](auto x, auto y) { return x - y; });
  }
};
struct Mul {
  template <class T>
  T operator()(T a, T b) const {
    return arithmetic(a, b, [](auto x, auto y) { return x * y; });
  }
};
struct Div {
  template <class T>
  T operator()(T a, T b) const {
    return arithmetic(a, b, [](auto x, auto y) { return x / y; });
  }
};
struct Pow {
  template <class T>
  T operator()(T a, T b) const {
    return arithmetic(a, b, [](auto x, auto y) { return std::pow(x, y); });
  }
};
// The comparison is false for a NaN in x, and the second test lets a NaN in y through.
struct Maximum {
  template <class T>
  T operator()(T a, T b) const {
    const auto x = convert<compute_t<T>>(a), y = convert<compute_t<T>>(b);
    return y > x || y != y ? b : a;
  }
};
struct Minimum {
  template <class T>
  T operator()(T a, T b) const {
    const auto x = convert<compute_t<T>>(a), y = convert<compute_t<T>>(b);
    return y < x || y != y ? b : a;
  }
};

// One run of y = op(a, b); the unit-stride and the broadcast forms are loops of their own, so that they vectorise.
template <class Op, class T>
void run(T* y, const T* a, const T* b, int64_t y_step, int64_t a_step, int64_t b_step, int64_t n) {
  const Op op;
  if (y_step == 1 && a_step == 1 && b_step == 1) {
    for (int64_t i = 0; i < n; ++i) y[i] = op(a[i], b[i]);
  } else if (y_step == 1 && a_step == 1 && b_step == 0) {
    const T value = *b;
    for (int64_t i = 0; i < n; ++i) y[i] = op(a[i], value);
  } else if (y_step == 1 && a_step == 0 && b_step == 1) {
    const T value = *a;
    for (int64_t i = 0; i < n; ++i) y[i] = op(value, b[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) y[i * y_step] = op(a[i * a_step], b[i * b_step]);
  }
}

template <class Op, class T>
void binary_of(const ConstView& a, const ConstView& b, const View& y, double number) {
  const T value = convert<T>(number);
  if (!a.defined() || !b.defined()) {
    Walk<2>({&y, a.defined() ? &a : &b}).run([&](const auto& p, const auto& step, int64_t n) {
      T* out = reinterpret_cast<T*>(p[0]);
      const T* in = reinterpret_cast<const T*>(p[1]);
      if (a.defined()) {
        run<Op>(out, in, &value, step[0], step[1], 0, n);
      } else {
        run<Op>(out, &value, in, step[0], 0, step[1], n);
      }
    });
    return;
  }
  Walk<3>({&y, &a, &b}).run([](const auto& p, const auto& step, int64_t n) {
    run<Op>(reinterpret_cast<T*>(p[0]), reinterpret_cast<const T*>(p[1]), reinterpret_cast<const T*>(p[2]), step[0],
            step[1], step[2], n);
  });
}

template <class Op>
void number_kernel(ConstView a, ConstView b, View y, double number) {
  visit_number(y.dtype(), [&]<class T>() { binary_of<Op, T>(a, b, y, number); });
}

template <class Op>
void float_kernel(ConstView a, ConstView b, View y, double number) {
  visit_float(y.dtype(), [&]<class T>() { binary_of<Op, T>(a, b, y, number); });
}

const Registered registered_add(DeviceType::cpu, kernels::add, number_kernel<Add>);
const Registered registered_sub(DeviceType::cpu, kernels::sub, number_kernel<Sub>);
const Registered registered_mul(DeviceType::cpu, kernels::mul, number_kernel<Mul>);
const Registered registered_div(DeviceType::cpu, kernels::div, float_kernel<Div>);
const Registered registered_pow(DeviceType::cpu, kernels::pow, float_kernel<Pow>);
const Registered registered_maximum(DeviceType::cpu, kernels::maximum, number_kernel<Maximum>);
const Registered registered_minimum(DeviceType::cpu, kernels::minimum, number_kernel<Minimum>);

}  // namespace
}  // namespace mahia::cpu
