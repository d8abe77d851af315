// SPDX-License-Identifier: Apache-2.0
#include "ops/pointwise.hpp"

#include "backends/common/pointwise.hpp"
#include "backends/cuda/elementwise.cuh"
#include "backends/cuda/math.cuh"

namespace mahia::cuda {
namespace {

template <template <class, class> class F, class T>
struct Value {
  F<Math, compute_t<T>> f;
  __device__ T operator()(T x) const { return convert<T>(f.value(convert<compute_t<T>>(x))); }
};

template <template <class, class> class F, class T>
struct Slope {
  F<Math, compute_t<T>> f;
  __device__ T operator()(T kept, T dy) const {
    using S = compute_t<T>;
    return convert<T>(convert<S>(dy) * f.slope(convert<S>(kept)));
  }
};

// y = f(x)
template <template <class, class> class F>
void value(ConstView x, View y, double a, double b) {
  visit_float(x.dtype(), [&]<class T>() {
    using S = compute_t<T>;
    map<T, T>(Value<F, T>{{static_cast<S>(a), static_cast<S>(b)}}, y, x);
  });
}

// dx = dy f'(kept)
template <template <class, class> class F>
void slope(ConstView kept, ConstView dy, View dx, double a, double b) {
  visit_float(kept.dtype(), [&]<class T>() {
    using S = compute_t<T>;
    map<T, T, T>(Slope<F, T>{{static_cast<S>(a), static_cast<S>(b)}}, dx, kept, dy);
  });
}

template <template <class, class> class F>
struct Formula {
  Formula(kernels::Pointwise& value_slot, kernels::PointwiseGrad& slope_slot)
      : registered_value(DeviceType::cuda, value_slot, value<F>),
        registered_slope(DeviceType::cuda, slope_slot, slope<F>) {}
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
}  // namespace mahia::cuda
