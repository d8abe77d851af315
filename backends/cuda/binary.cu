// SPDX-License-Identifier: Apache-2.0
#include "ops/binary.hpp"

#include <functional>

#include "backends/cuda/elementwise.cuh"

namespace mahia::cuda {
namespace {

// Integer arithmetic wraps around, in an unsigned type; bool computes as int.
template <class Fn>
struct Arithmetic {
  template <class T>
  __device__ T operator()(T a, T b) const {
    if constexpr (std::is_same_v<T, bool>) {
      return Fn()(static_cast<int>(a), static_cast<int>(b)) != 0;
    } else if constexpr (std::is_integral_v<T>) {
      using U = std::make_unsigned_t<T>;
      return static_cast<T>(Fn()(static_cast<U>(a), static_cast<U>(b)));
    } else {
      return convert<T>(Fn()(convert<compute_t<T>>(a), convert<compute_t<T>>(b)));
    }
  }
};

struct Power {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return ::pow(a, b);
  }
};

// The comparison is false for a NaN in x, and the second test lets a NaN in y through.
struct Maximum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    const auto x = convert<compute_t<T>>(a), y = convert<compute_t<T>>(b);
    return y > x || y != y ? b : a;
  }
};
struct Minimum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    const auto x = convert<compute_t<T>>(a), y = convert<compute_t<T>>(b);
    return y < x || y != y ? b : a;
  }
};

template <class Op, class T>
struct WithNumber {
  double number;
  bool left;
  __device__ T operator()(T x) const {
    const T value = convert<T>(number);
    return left ? Op{}(value, x) : Op{}(x, value);
  }
};

template <class Op, class T>
void binary_of(const ConstView& a, const ConstView& b, const View& y, double number) {
  if (a.defined() && b.defined()) {
    map<T, T, T>(Op{}, y, a, b);
  } else {
    map<T, T>(WithNumber<Op, T>{number, !a.defined()}, y, a.defined() ? a : b);
  }
}

template <class Op>
void number_kernel(ConstView a, ConstView b, View y, double number) {
  visit_number(y.dtype(), [&]<class T>() { binary_of<Op, T>(a, b, y, number); });
}

template <class Op>
void float_kernel(ConstView a, ConstView b, View y, double number) {
  visit_float(y.dtype(), [&]<class T>() { binary_of<Op, T>(a, b, y, number); });
}

const Registered registered_add(DeviceType::cuda, kernels::add, number_kernel<Arithmetic<std::plus<>>>);
const Registered registered_sub(DeviceType::cuda, kernels::sub, number_kernel<Arithmetic<std::minus<>>>);
const Registered registered_mul(DeviceType::cuda, kernels::mul, number_kernel<Arithmetic<std::multiplies<>>>);
const Registered registered_div(DeviceType::cuda, kernels::div, float_kernel<Arithmetic<std::divides<>>>);
const Registered registered_pow(DeviceType::cuda, kernels::pow, float_kernel<Arithmetic<Power>>);
const Registered registered_maximum(DeviceType::cuda, kernels::maximum, number_kernel<Maximum>);
const Registered registered_minimum(DeviceType::cuda, kernels::minimum, number_kernel<Minimum>);

}  // namespace
}  // namespace mahia::cuda
