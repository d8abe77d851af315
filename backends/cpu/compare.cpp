// SPDX-License-Identifier: Apache-2.0
#include "ops/compare.hpp"

#include "backends/cpu/elementwise.hpp"

namespace mahia::cpu {
namespace {

struct Eq {
  bool operator()(auto a, auto b) const { return a == b; }
};
struct Ne {
  bool operator()(auto a, auto b) const { return a != b; }
};
struct Lt {
  bool operator()(auto a, auto b) const { return a < b; }
};
struct Le {
  bool operator()(auto a, auto b) const { return a <= b; }
};
struct Gt {
  bool operator()(auto a, auto b) const { return a > b; }
};
struct Ge {
  bool operator()(auto a, auto b) const { return a >= b; }
};

template <class Op, class T>
void run(bool* y, const T* a, const T* b, int64_t y_step, int64_t a_step, int64_t b_step, int64_t n) {
  const auto holds = [](T left, T right) { return Op{}(convert<compute_t<T>>(left), convert<compute_t<T>>(right)); };
  if (y_step == 1 && a_step == 1 && b_step == 1) {
    for (int64_t i = 0; i < n; ++i) y[i] = holds(a[i], b[i]);
  } else if (y_step == 1 && a_step == 1 && b_step == 0) {
    const T value = *b;
    for (int64_t i = 0; i < n; ++i) y[i] = holds(a[i], value);
  } else {
    for (int64_t i = 0; i < n; ++i) y[i * y_step] = holds(a[i * a_step], b[i * b_step]);
  }
}

template <class Op>
void compare(ConstView a, ConstView b, View y, double number) {
  visit_number(a.dtype(), [&]<class T>() {
    if (!b.defined()) {
      const T value = convert<T>(number);
      Walk<2>({&y, &a}).run([&](const auto& p, const auto& step, int64_t n) {
        run<Op>(reinterpret_cast<bool*>(p[0]), reinterpret_cast<const T*>(p[1]), &value, step[0], step[1], 0, n);
      });
      return;
    }
    Walk<3>({&y, &a, &b}).run([](const auto& p, const auto& step, int64_t n) {
      run<Op>(reinterpret_cast<bool*>(p[0]), reinterpret_cast<const T*>(p[1]), reinterpret_cast<const T*>(p[2]),
              step[0], step[1], step[2], n);
    });
  });
}

void where(ConstView condition, ConstView a, ConstView b, View y) {
  visit_number(y.dtype(), [&]<class T>() {
    Walk<4>({&y, &condition, &a, &b}).run([](const auto& p, const auto& step, int64_t n) {
      T* out = reinterpret_cast<T*>(p[0]);
      const bool* chosen = reinterpret_cast<const bool*>(p[1]);
      const T *left = reinterpret_cast<const T*>(p[2]), *right = reinterpret_cast<const T*>(p[3]);
      for (int64_t i = 0; i < n; ++i) {
        const T x = left[i * step[2]], z = right[i * step[3]];
        out[i * step[0]] = chosen[i * step[1]] ? x : z;
      }
    });
  });
}

const Registered registered_eq(DeviceType::cpu, kernels::eq, compare<Eq>);
const Registered registered_ne(DeviceType::cpu, kernels::ne, compare<Ne>);
const Registered registered_lt(DeviceType::cpu, kernels::lt, compare<Lt>);
const Registered registered_le(DeviceType::cpu, kernels::le, compare<Le>);
const Registered registered_gt(DeviceType::cpu, kernels::gt, compare<Gt>);
const Registered registered_ge(DeviceType::cpu, kernels::ge, compare<Ge>);
const Registered registered_where(DeviceType::cpu, kernels::where, where);

}  // namespace
}  // namespace mahia::cpu
