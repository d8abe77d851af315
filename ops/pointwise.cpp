// SPDX-License-Identifier: Apache-2.0
#include "ops/pointwise.hpp"

#include "autograd/record.hpp"
#include "core/factory.hpp"

namespace mahia {
namespace {

enum class Keeps { input, output };

// y = f(x), with dx = dy f'(x) or dy f'(y) in backward.
Tensor pointwise(const kernels::Pointwise& value, const kernels::PointwiseGrad& grad, const Tensor& x, Keeps keeps,
                 double a = 0, double b = 0) {
  check<DTypeError>(is_floating_point(x.dtype()) && x.dtype() != DType::f16, value.name(),
                    ": needs an f64, f32 or bf16 tensor, got ", x);
  const Tensor y = empty_like(x);
  if (y.numel() > 0) value(x, y.output_view(), a, b);
  return record(value.name(), y, {x},
                [kept = save(keeps == Keeps::input ? x : y), slope = &grad, a, b](GradContext& ctx) {
                  const Tensor dx = empty_like(ctx.strided_grad());
                  if (dx.numel() > 0) (*slope)(*kept, ctx.strided_grad(), dx.output_view(), a, b);
                  return Tensors{dx};
                });
}

}  // namespace

Tensor neg(const Tensor& x) { return mul(x, -1); }
Tensor abs(const Tensor& x) { return pointwise(kernels::abs, kernels::abs_grad, x, Keeps::input); }
Tensor exp(const Tensor& x) { return pointwise(kernels::exp, kernels::exp_grad, x, Keeps::output); }
Tensor log(const Tensor& x) { return pointwise(kernels::log, kernels::log_grad, x, Keeps::input); }
Tensor sqrt(const Tensor& x) { return pointwise(kernels::sqrt, kernels::sqrt_grad, x, Keeps::output); }
Tensor rsqrt(const Tensor& x) { return pointwise(kernels::rsqrt, kernels::rsqrt_grad, x, Keeps::output); }
Tensor sin(const Tensor& x) { return pointwise(kernels::sin, kernels::sin_grad, x, Keeps::input); }
Tensor cos(const Tensor& x) { return pointwise(kernels::cos, kernels::cos_grad, x, Keeps::input); }
Tensor tanh(const Tensor& x) { return pointwise(kernels::tanh, kernels::tanh_grad, x, Keeps::output); }
Tensor sigmoid(const Tensor& x) { return pointwise(kernels::sigmoid, kernels::sigmoid_grad, x, Keeps::output); }
Tensor relu(const Tensor& x) { return pointwise(kernels::relu, kernels::relu_grad, x, Keeps::output); }
Tensor silu(const Tensor& x) { return pointwise(kernels::silu, kernels::silu_grad, x, Keeps::input); }

Tensor softplus(const Tensor& x, double beta, double threshold) {
  check<ValueError>(beta > 0, "softplus: beta is ", beta, ", must be positive");
  return pointwise(kernels::softplus, kernels::softplus_grad, x, Keeps::input, beta, threshold);
}

Tensor gelu(const Tensor& x, Approximate approximate) {
  return approximate == Approximate::none ? pointwise(kernels::gelu, kernels::gelu_grad, x, Keeps::input)
                                          : pointwise(kernels::gelu_tanh, kernels::gelu_tanh_grad, x, Keeps::input);
}

Tensor clamp(const Tensor& x, double low, double high) {
  check<ValueError>(low <= high, "clamp: low ", low, " is above high ", high);
  return pointwise(kernels::clamp, kernels::clamp_grad, x, Keeps::input, low, high);
}

}  // namespace mahia
