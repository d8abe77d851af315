// SPDX-License-Identifier: Apache-2.0
// An op of your own, outside of mahia's tree: value, gradient, a kernel for the CPU, and the check of the gradient.
#include <algorithm>
#include <iostream>
#include <mahia/autograd/gradcheck.hpp>
#include <mahia/autograd/record.hpp>
#include <mahia/core/factory.hpp>
#include <mahia/core/kernel.hpp>
#include <mahia/core/parallel.hpp>
#include <mahia/ops/shape.hpp>

namespace own {

using namespace mahia;

// What a backend has to provide. Views are contiguous.
namespace kernels {
inline constinit Kernel<void(ConstView x, View y)> squared_relu{"squared_relu"};
inline constinit Kernel<void(ConstView x, ConstView dy, View dx)> squared_relu_grad{"squared_relu_grad"};
}  // namespace kernels

// y = max(x, 0)^2, elementwise; y has the shape and dtype of x. Throws DTypeError unless x is floating.
Tensor squared_relu(const Tensor& input) {
  check<DTypeError>(is_floating_point(input.dtype()), "squared_relu: needs a floating tensor, got ", input);
  const Tensor x = contiguous(input);
  Tensor y = empty_like(x);
  if (x.numel() > 0) kernels::squared_relu(x, y.output_view());
  return record("squared_relu", y, {x}, [x = save(x)](GradContext& ctx) {
    Tensor dx = empty_like(ctx.grad());
    kernels::squared_relu_grad(*x, ctx.grad(), dx.output_view());
    return Tensors{dx};
  });
}

namespace {

constexpr int64_t tile = 4096;  // elements for one task; a constant, so that the bits do not depend on the threads

void squared_relu_cpu(ConstView x, View y) {
  visit_float(x.dtype(), [&]<class T>() {
    using Compute = compute_t<T>;  // f32 for bf16
    const T* from = x.data<T>();
    T* to = y.data<T>();
    parallel_rows(x.numel(), tile, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Compute positive = std::max(static_cast<Compute>(from[i]), Compute{0});
        to[i] = static_cast<T>(positive * positive);
      }
    });
  });
}

// dx = 2 max(x, 0) dy
void squared_relu_grad_cpu(ConstView x, ConstView dy, View dx) {
  visit_float(x.dtype(), [&]<class T>() {
    using Compute = compute_t<T>;
    const T *from = x.data<T>(), *slope = dy.data<T>();
    T* to = dx.data<T>();
    parallel_rows(x.numel(), tile, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Compute positive = std::max(static_cast<Compute>(from[i]), Compute{0});
        to[i] = static_cast<T>(2 * positive * static_cast<Compute>(slope[i]));
      }
    });
  });
}

const Registered squared_relu_registered(DeviceType::cpu, kernels::squared_relu, squared_relu_cpu);
const Registered squared_relu_grad_registered(DeviceType::cpu, kernels::squared_relu_grad, squared_relu_grad_cpu);

}  // namespace
}  // namespace own

int main() {
  using namespace mahia;
  std::cout << own::squared_relu(Tensor::from({-1.0F, 0.5F, 3.0F}, {3})) << '\n';
  const Tensor x = randn({5, 7}, DType::f64).set_requires_grad(true);
  gradcheck([](const Tensors& inputs) { return own::squared_relu(inputs[0]); }, {x});
  std::cout << "the gradient of squared_relu agrees with finite differences\n";
}
