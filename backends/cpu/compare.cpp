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

// An unsigned number as wide as the dtype: which of two values is taken does not depend on what they mean.
template <class Fn>
void visit_word(DType dtype, Fn&& fn) {
  switch (size_of(dtype)) {
    case 8:
      return fn.template operator()<uint64_t>();
    case 4:
      return fn.template operator()<uint32_t>();
    case 2:
      return fn.template operator()<uint16_t>();
    default:
      return fn.template operator()<uint8_t>();
  }
}

template <class W>
void where_run(W* y, const uint8_t* condition, const W* a, const W* b, const std::array<int64_t, 4>& step, int64_t n) {
  const auto choose = [](uint8_t left, W x, W z) {
    const auto mask = static_cast<W>(-static_cast<W>(left));  // all ones or all zeros; a choice would not vectorise
    return static_cast<W>((x & mask) | (z & ~mask));
  };
  if (step == std::array<int64_t, 4>{1, 1, 1, 1}) {
    for (int64_t i = 0; i < n; ++i) y[i] = choose(condition[i], a[i], b[i]);
  } else if (step == std::array<int64_t, 4>{1, 1, 1, 0}) {
    for (int64_t i = 0; i < n; ++i) y[i] = choose(condition[i], a[i], *b);
  } else {
    for (int64_t i = 0; i < n; ++i) {
      y[i * step[0]] = choose(condition[i * step[1]], a[i * step[2]], b[i * step[3]]);
    }
  }
}

void where(ConstView condition, ConstView a, ConstView b, View y) {
  visit_word(y.dtype(), [&]<class W>() {
    Walk<4>({&y, &condition, &a, &b}).run([](const auto& p, const auto& step, int64_t n) {
      where_run(reinterpret_cast<W*>(p[0]), reinterpret_cast<const uint8_t*>(p[1]), reinterpret_cast<const W*>(p[2]),
                reinterpret_cast<const W*>(p[3]), step, n);
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
