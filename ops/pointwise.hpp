// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"
#include "binary.hpp"

namespace mahia {

// How gelu computes the normal distribution function.
enum class Approximate { none, tanh };

// Elementwise functions of one floating tensor; y has its shape and dtype, and is computed in f32 for bf16.
// Throw DTypeError unless x is f64, f32 or bf16; neg takes every dtype but f16.
Tensor neg(const Tensor& x);
Tensor abs(const Tensor& x);
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor rsqrt(const Tensor& x);  // 1 / sqrt(x)
Tensor sin(const Tensor& x);
Tensor cos(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor sigmoid(const Tensor& x);                                            // 1 / (1 + exp(-x))
Tensor relu(const Tensor& x);                                               // max(x, 0)
Tensor silu(const Tensor& x);                                               // x sigmoid(x)
Tensor softplus(const Tensor& x, double beta = 1, double threshold = 20);   // log(1 + exp(beta x)) / beta
Tensor gelu(const Tensor& x, Approximate approximate = Approximate::none);  // x Phi(x)
Tensor clamp(const Tensor& x, double low, double high);                     // min(max(x, low), high)

namespace kernels {
// y = f(x) and dx = dy f'(kept): any strides, equal shapes and dtypes. `kept` is the input x or, where the derivative
// is simpler in it, the output y. a and b are the function's numbers.
using Pointwise = Kernel<void(ConstView x, View y, double a, double b)>;
using PointwiseGrad = Kernel<void(ConstView kept, ConstView dy, View dx, double a, double b)>;
inline constinit Pointwise abs{"abs"}, exp{"exp"}, log{"log"}, sqrt{"sqrt"}, rsqrt{"rsqrt"}, sin{"sin"}, cos{"cos"},
    tanh{"tanh"}, sigmoid{"sigmoid"}, relu{"relu"}, silu{"silu"}, softplus{"softplus"}, gelu{"gelu"},
    gelu_tanh{"gelu_tanh"}, clamp{"clamp"};
inline constinit PointwiseGrad abs_grad{"abs_grad"}, exp_grad{"exp_grad"}, log_grad{"log_grad"}, sqrt_grad{"sqrt_grad"},
    rsqrt_grad{"rsqrt_grad"}, sin_grad{"sin_grad"}, cos_grad{"cos_grad"}, tanh_grad{"tanh_grad"},
    sigmoid_grad{"sigmoid_grad"}, relu_grad{"relu_grad"}, silu_grad{"silu_grad"}, softplus_grad{"softplus_grad"},
    gelu_grad{"gelu_grad"}, gelu_tanh_grad{"gelu_tanh_grad"}, clamp_grad{"clamp_grad"};
}  // namespace kernels

}  // namespace mahia
