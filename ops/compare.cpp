// SPDX-License-Identifier: Apache-2.0
#include "ops/compare.hpp"

#include "autograd/record.hpp"
#include "core/factory.hpp"
#include "ops/binary.hpp"
#include "ops/broadcast.hpp"
#include "ops/cast.hpp"
#include "ops/reduce.hpp"

namespace mahia {
namespace {

Tensor compare(const kernels::Compare& kernel, const Tensor& x, const Tensor& z) {
  const NoGrad no_grad;
  const DType dtype = result_dtype(kernel.name(), x, z);
  const Tensor a = to(x, dtype), b = to(z, dtype);
  const Tensor y = empty(broadcast_shapes(kernel.name(), a.shape(), b.shape()), DType::boolean, a.device());
  if (y.numel() > 0) kernel(broadcast_view(a, y.shape()), broadcast_view(b, y.shape()), y.output_view(), 0);
  return y;
}

Tensor compare(const kernels::Compare& kernel, const Tensor& x, double number) {
  const NoGrad no_grad;
  const Tensor a = to(x, result_dtype(kernel.name(), x, number));
  const Tensor y = empty_like(a, DType::boolean);
  if (y.numel() > 0) kernel(a, {}, y.output_view(), number);
  return y;
}

}  // namespace

Tensor eq(const Tensor& a, const Tensor& b) { return compare(kernels::eq, a, b); }
Tensor ne(const Tensor& a, const Tensor& b) { return compare(kernels::ne, a, b); }
Tensor lt(const Tensor& a, const Tensor& b) { return compare(kernels::lt, a, b); }
Tensor le(const Tensor& a, const Tensor& b) { return compare(kernels::le, a, b); }
Tensor gt(const Tensor& a, const Tensor& b) { return compare(kernels::gt, a, b); }
Tensor ge(const Tensor& a, const Tensor& b) { return compare(kernels::ge, a, b); }
Tensor eq(const Tensor& a, double b) { return compare(kernels::eq, a, b); }
Tensor ne(const Tensor& a, double b) { return compare(kernels::ne, a, b); }
Tensor lt(const Tensor& a, double b) { return compare(kernels::lt, a, b); }
Tensor le(const Tensor& a, double b) { return compare(kernels::le, a, b); }
Tensor gt(const Tensor& a, double b) { return compare(kernels::gt, a, b); }
Tensor ge(const Tensor& a, double b) { return compare(kernels::ge, a, b); }

Tensor where(const Tensor& condition, const Tensor& x, const Tensor& z) {
  check<DTypeError>(condition.dtype() == DType::boolean, "where: the condition must be bool: condition ", condition,
                    ", a ", x, ", b ", z);
  const DType dtype = result_dtype("where", x, z);
  const Tensor a = to(x, dtype), b = to(z, dtype);
  const Shape shape = broadcast_shapes("where", broadcast_shapes("where", condition.shape(), a.shape()), b.shape());
  const Tensor y = empty(shape, dtype, a.device());
  if (y.numel() > 0) {
    kernels::where(broadcast_view(condition, shape), broadcast_view(a, shape), broadcast_view(b, shape),
                   y.output_view());
  }
  return record("where", y, {a, b},
                [condition = save(condition), from_a = a.shape(), from_b = b.shape()](GradContext& ctx) {
                  const Tensor& dy = ctx.strided_grad();
                  const Tensor none = scalar(0, dy.dtype(), dy.device());
                  Tensors grads(2);
                  if (ctx.needs(0)) grads[0] = sum_to(where(*condition, dy, none), from_a);
                  if (ctx.needs(1)) grads[1] = sum_to(where(*condition, none, dy), from_b);
                  return grads;
                });
}

}  // namespace mahia
