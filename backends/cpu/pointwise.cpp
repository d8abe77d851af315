// SPDX-License-Identifier: Apache-2.0
#include "ops/pointwise.hpp"

#include "backends/common/pointwise.hpp"
#include "backends/cpu/elementwise.hpp"
#include "backends/cpu/math.hpp"

namespace mahia::cpu {
namespace {

// Math reduces the arguments of sin and cos up to a limit; the rare numbers beyond it go through f64, one by one.
template <template <class, class> class F, class S>
inline constexpr bool has_limit =
    std::is_same_v<F<Math, S>, formula::Sin<Math, float>> || std::is_same_v<F<Math, S>, formula::Cos<Math, float>>;

template <template <class, class> class F>
struct Unlimited {
  F<Math, float> fast;
  F<Math, double> exact;
  float value(float x) const {
    return std::fabs(x) <= trigonometric_limit ? fast.value(x) : static_cast<float>(exact.value(x));
  }
  float slope(float x) const {
    return std::fabs(x) <= trigonometric_limit ? fast.slope(x) : static_cast<float>(exact.slope(x));
  }
};

template <class T>
bool any_beyond_limit(const T* x, int64_t step, int64_t n) {
  float largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::fabs(convert<float>(x[i * step])));
  return largest > trigonometric_limit;
}

// Functions of their own: inlined into a walk, these loops would not vectorise.
template <class T, class F>
[[gnu::noinline]] void value_of_neighbours(F f, T* y, const T* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = convert<T>(f.value(convert<compute_t<T>>(x[i])));
}

template <class T, class F>
[[gnu::noinline]] void slope_of_neighbours(F f, T* dx, const T* kept, const T* dy, int64_t n) {
  using S = compute_t<T>;
  for (int64_t i = 0; i < n; ++i) dx[i] = convert<T>(convert<S>(dy[i]) * f.slope(convert<S>(kept[i])));
}

template <class T, class F>
void value_run(F f, T* y, int64_t y_step, const T* x, int64_t x_step, int64_t n) {
  if (y_step == 1 && x_step == 1) return value_of_neighbours(f, y, x, n);
  for (int64_t i = 0; i < n; ++i) y[i * y_step] = convert<T>(f.value(convert<compute_t<T>>(x[i * x_step])));
}

template <class T, class F>
void slope_run(F f, const std::array<std::byte*, 3>& p, const std::array<int64_t, 3>& step, int64_t n) {
  using S = compute_t<T>;
  T* dx = reinterpret_cast<T*>(p[0]);
  const T *kept = reinterpret_cast<const T*>(p[1]), *dy = reinterpret_cast<const T*>(p[2]);
  if (step == std::array<int64_t, 3>{1, 1, 1}) return slope_of_neighbours(f, dx, kept, dy, n);
  for (int64_t i = 0; i < n; ++i) {
    dx[i * step[0]] = convert<T>(convert<S>(dy[i * step[2]]) * f.slope(convert<S>(kept[i * step[1]])));
  }
}

// y = f(x)
template <template <class, class> class F>
void value(ConstView x, View y, double a, double b) {
  visit_float(x.dtype(), [&]<class T>() {
    using S = compute_t<T>;
    const F<Math, S> f{static_cast<S>(a), static_cast<S>(b)};
    Walk<2>({&y, &x}).run([&](const auto& p, const auto& step, int64_t n) {
      T* to = reinterpret_cast<T*>(p[0]);
      const T* from = reinterpret_cast<const T*>(p[1]);
      if constexpr (has_limit<F, S>) {
        if (any_beyond_limit(from, step[1], n)) return value_run(Unlimited<F>{f, {}}, to, step[0], from, step[1], n);
      }
      value_run(f, to, step[0], from, step[1], n);
    });
  });
}

// dx = dy f'(kept)
template <template <class, class> class F>
void slope(ConstView kept, ConstView dy, View dx, double a, double b) {
  visit_float(kept.dtype(), [&]<class T>() {
    using S = compute_t<T>;
    const F<Math, S> f{static_cast<S>(a), static_cast<S>(b)};
    Walk<3>({&dx, &kept, &dy}).run([&](const auto& p, const auto& step, int64_t n) {
      if constexpr (has_limit<F, S>) {
        if (any_beyond_limit(reinterpret_cast<const T*>(p[1]), step[1], n)) {
          return slope_run<T>(Unlimited<F>{f, {}}, p, step, n);
        }
      }
      slope_run<T>(f, p, step, n);
    });
  });
}

template <template <class, class> class F>
struct Formula {
  Formula(kernels::Pointwise& value_slot, kernels::PointwiseGrad& slope_slot)
      : registered_value(DeviceType::cpu, value_slot, value<F>),
        registered_slope(DeviceType::cpu, slope_slot, slope<F>) {}
  Registered registered_value, registered_slope;
};

const Formula<formula::Abs> abs(kernels::abs, kernels::abs_grad);
const Formula<formula::Exp> exp(kernels::exp, kernels::exp_grad);
const Formula<formula::Log> log(kernels::log, kernels::log_grad);
const Formula<formula::Sqrt> sqrt(kernels::sqrt, kernels::sqrt_grad);
const Formula<formula::Rsqrt> rsqrt(kernels::rsqrt, kernels::rsqrt_grad);
const Formula<formula::Sin> sin(kernels::sin, kernels::sin_grad);
const Formula<formula::Cos> cos(kernels::cos, kernels::cos_grad);
const Formula<formula::Tanh> tanh(kernels::tanh, kernels::tanh_grad);
const Formula<formula::Sigmoid> sigmoid(kernels::sigmoid, kernels::sigmoid_grad);
const Formula<formula::Relu> relu(kernels::relu, kernels::relu_grad);
const Formula<formula::Silu> silu(kernels::silu, kernels::silu_grad);
const Formula<formula::Softplus> softplus(kernels::softplus, kernels::softplus_grad);
const Formula<formula::Gelu> gelu(kernels::gelu, kernels::gelu_grad);
const Formula<formula::GeluTanh> gelu_tanh(kernels::gelu_tanh, kernels::gelu_tanh_grad);
const Formula<formula::Clamp> clamp(kernels::clamp, kernels::clamp_grad);

}  // namespace
}  // namespace mahia::cpu
