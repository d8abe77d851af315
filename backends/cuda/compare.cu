// SPDX-License-Identifier: Apache-2.0
#include "ops/compare.hpp"

#include <functional>

#include "backends/cuda/elementwise.cuh"

namespace mahia::cuda {
namespace {

template <class Op, class T>
struct Holds {
  __device__ bool operator()(T a, T b) const { return Op()(convert<compute_t<T>>(a), convert<compute_t<T>>(b)); }
};

template <class Op, class T>
struct HoldsForNumber {
  double number;
  __device__ bool operator()(T a) const { return Holds<Op, T>{}(a, convert<T>(number)); }
};

template <class Op>
void compare(ConstView a, ConstView b, View y, double number) {
  visit_number(a.dtype(), [&]<class T>() {
    if (b.defined()) {
      map<bool, T, T>(Holds<Op, T>{}, y, a, b);
    } else {
      map<bool, T>(HoldsForNumber<Op, T>{number}, y, a);
    }
  });
}

template <class T>
struct Choose {
  __device__ T operator()(bool condition, T a, T b) const { return condition ? a : b; }
};

void where(ConstView condition, ConstView a, ConstView b, View y) {
  visit_number(y.dtype(), [&]<class T>() { map<T, bool, T, T>(Choose<T>{}, y, condition, a, b); });
}

const Registered registered_eq(DeviceType::cuda, kernels::eq, compare<std::equal_to<>>);
const Registered registered_ne(DeviceType::cuda, kernels::ne, compare<std::not_equal_to<>>);
const Registered registered_lt(DeviceType::cuda, kernels::lt, compare<std::less<>>);
const Registered registered_le(DeviceType::cuda, kernels::le, compare<std::less_equal<>>);
const Registered registered_gt(DeviceType::cuda, kernels::gt, compare<std::greater<>>);
const Registered registered_ge(DeviceType::cuda, kernels::ge, compare<std::greater_equal<>>);
const Registered registered_where(DeviceType::cuda, kernels::where, where);

}  // namespace
}  // namespace mahia::cuda
