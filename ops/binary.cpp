// SPDX-License-Identifier: Apache-2.0
#include "ops/binary.hpp"

#include "autograd/record.hpp"
#include "core/factory.hpp"
#include "ops/broadcast.hpp"
#include "ops/cast.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"

namespace mahia {
namespace {

// a op b without history; both have one dtype.
Tensor apply(const kernels::Binary& kernel, const Tensor& a, const Tensor& b) {
  if (a.shape() == b.shape()) {
    const Tensor y = empty_like(a);
    if (y.numel() > 0) kernel(a, b, y.output_view(), 0);
    return y;
  }
  const Tensor y = empty(broadcast_shapes(kernel.name(), a.shape(), b.shape()), a.dtype(), a.device());
  if (y.numel() > 0) kernel(broadcast_view(a, y.shape()), broadcast_view(b, y.shape()), y.output_view(), 0);
  return y;
}

Tensor apply(const kernels::Binary& kernel, const Tensor& a, double b) {
  const Tensor y = empty_like(a);
  if (y.numel() > 0) kernel(a, {}, y.output_view(), b);
  return y;
}

Tensor apply(const kernels::Binary& kernel, double a, const Tensor& b) {
  const Tensor y = empty_like(b);
  if (y.numel() > 0) kernel({}, b, y.output_view(), a);
  return y;
}

struct Promoted {
  Tensor a, b;
};

Promoted promoted(const char* op, const Tensor& a, const Tensor& b) {
  const DType dtype = result_dtype(op, a, b);
  return {to(a, dtype), to(b, dtype)};
}

// For ops whose results are fractions: integers become f32.
Promoted promoted_to_floating(const char* op, const Tensor& a, const Tensor& b) {
  const DType dtype = result_dtype(op, a, b);
  const DType floating = is_floating_point(dtype) ? dtype : DType::f32;
  return {to(a, floating), to(b, floating)};
}

Tensor floating(const Tensor& x) { return is_floating_point(x.dtype()) ? x : to(x, DType::f32); }

// The gradient of max or min: dy goes where an operand was taken, half to each at a tie.
Tensor taken(const Tensor& a, const Tensor& b, const Tensor& dy, bool largest) {
  const Tensor wins = to(largest ? gt(a, b) : lt(a, b), dy.dtype()), ties = to(eq(a, b), dy.dtype());
  return sum_to(mul(dy, add(wins, mul(ties, 0.5))), a.shape());
}

Tensor extreme(const kernels::Binary& kernel, const Tensor& x, const Tensor& z, bool largest) {
  const auto [a, b] = promoted(kernel.name(), x, z);
  return record(kernel.name(), apply(kernel, a, b), {a, b}, [a = save(a), b = save(b), largest](GradContext& ctx) {
    return Tensors{ctx.needs(0) ? taken(*a, *b, ctx.grad(), largest) : Tensor(),
                   ctx.needs(1) ? taken(*b, *a, ctx.grad(), largest) : Tensor()};
  });
}

// a + sign * b
Tensor add_or_sub(const kernels::Binary& kernel, const Tensor& a, const Tensor& b, double sign) {
  if (a.dtype() != b.dtype() || a.dtype() == DType::f16) {
    const auto [x, z] = promoted(kernel.name(), a, b);
    return add_or_sub(kernel, x, z, sign);
  }
  return record(kernel.name(), apply(kernel, a, b), {a, b},
                [from_a = a.shape(), from_b = b.shape(), sign](GradContext& ctx) {
                  const Tensor& dy = ctx.strided_grad();
                  Tensors grads(2);
                  if (ctx.needs(0)) grads[0] = sum_to(dy, from_a);
                  if (ctx.needs(1)) grads[1] = sum_to(sign < 0 ? mul(dy, sign) : dy, from_b);
                  return grads;
                });
}

}  // namespace

Tensor add(const Tensor& a, const Tensor& b) { return add_or_sub(kernels::add, a, b, 1); }
Tensor sub(const Tensor& a, const Tensor& b) { return add_or_sub(kernels::sub, a, b, -1); }

Tensor mul(const Tensor& x, const Tensor& z) {
  const auto [a, b] = promoted("mul", x, z);
  return record("mul", apply(kernels::mul, a, b), {a, b}, [a = save(a), b = save(b)](GradContext& ctx) {
    const Tensor& dy = ctx.strided_grad();
    return Tensors{ctx.needs(0) ? sum_to(mul(dy, *b), (*a).shape()) : Tensor(),
                   ctx.needs(1) ? sum_to(mul(dy, *a), (*b).shape()) : Tensor()};
  });
}

Tensor div(const Tensor& x, const Tensor& z) {
  const auto [a, b] = promoted_to_floating("div", x, z);
  const Tensor y = apply(kernels::div, a, b);
  return record("div", y, {a, b}, [from_a = a.shape(), b = save(b), y = save(y)](GradContext& ctx) {
    const Tensor da = div(ctx.strided_grad(), *b);  // db = -da * y
    return Tensors{ctx.needs(0) ? sum_to(da, from_a) : Tensor(),
                   ctx.needs(1) ? sum_to(mul(mul(da, *y), -1), (*b).shape()) : Tensor()};
  });
}

Tensor pow(const Tensor& x, const Tensor& z) {
  const auto [a, b] = promoted("pow", x, z);
  check<DTypeError>(is_floating_point(a.dtype()), "pow: needs floating tensors, got ", x, " and ", z);
  const Tensor y = apply(kernels::pow, a, b);
  return record("pow", y, {a, b}, [a = save(a), b = save(b), y = save(y)](GradContext& ctx) {
    const Tensor& dy = ctx.strided_grad();
    Tensors grads(2);
    if (ctx.needs(0)) {  // a^0 stays 1, also at 0
      const Tensor slope = where(eq(*b, 0), zeros_like(*y), mul(*b, pow(*a, sub(*b, 1))));
      grads[0] = sum_to(mul(dy, slope), (*a).shape());
    }
    if (ctx.needs(1)) {
      // 0^b stays 0 for b > 0; as in PyTorch, the slope at 0^0 is 0 too.
      const Tensor slope = where(eq(*a, 0), zeros_like(*y), mul(*y, log(*a)));
      grads[1] = sum_to(mul(dy, slope), (*b).shape());
    }
    return grads;
  });
}

Tensor maximum(const Tensor& a, const Tensor& b) { return extreme(kernels::maximum, a, b, true); }
Tensor minimum(const Tensor& a, const Tensor& b) { return extreme(kernels::minimum, a, b, false); }

Tensor add(const Tensor& a, double b) {
  const Tensor x = to(a, result_dtype("add", a, b));
  return record("add", apply(kernels::add, x, b), {x}, [](GradContext& ctx) { return Tensors{ctx.strided_grad()}; });
}

Tensor sub(const Tensor& a, double b) {
  const Tensor x = to(a, result_dtype("sub", a, b));
  return record("sub", apply(kernels::sub, x, b), {x}, [](GradContext& ctx) { return Tensors{ctx.strided_grad()}; });
}

Tensor sub(double a, const Tensor& b) {
  const Tensor x = to(b, result_dtype("sub", b, a));
  return record("sub", apply(kernels::sub, a, x), {x},
                [](GradContext& ctx) { return Tensors{mul(ctx.strided_grad(), -1)}; });
}

Tensor mul(const Tensor& a, double b) {
  const Tensor x = to(a, result_dtype("mul", a, b));
  return record("mul", apply(kernels::mul, x, b), {x},
                [b](GradContext& ctx) { return Tensors{mul(ctx.strided_grad(), b)}; });
}

Tensor div(const Tensor& a, double b) {
  const Tensor x = floating(a);
  result_dtype("div", x, b);
  return record("div", apply(kernels::div, x, b), {x},
                [b](GradContext& ctx) { return Tensors{div(ctx.strided_grad(), b)}; });
}

Tensor div(double a, const Tensor& b) {
  const Tensor x = floating(b);
  result_dtype("div", x, a);
  const Tensor y = apply(kernels::div, a, x);
  return record("div", y, {x}, [x = save(x), y = save(y)](GradContext& ctx) {
    return Tensors{mul(mul(div(ctx.strided_grad(), *x), *y), -1)};
  });
}

Tensor pow(const Tensor& a, double b) {
  check<DTypeError>(is_floating_point(a.dtype()), "pow: needs a floating tensor, got ", a);
  result_dtype("pow", a, b);
  const Tensor y = b == 2 ? apply(kernels::mul, a, a) : apply(kernels::pow, a, b);
  return record("pow", y, {a}, [a = save(a), b](GradContext& ctx) {
    if (b == 0) return Tensors{zeros_like(*a)};
    const Tensor slope = b == 2 ? *a : pow(*a, b - 1);
    return Tensors{mul(mul(ctx.strided_grad(), slope), b)};
  });
}

}  // namespace mahia
