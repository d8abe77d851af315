// SPDX-License-Identifier: Apache-2.0
#include "ops/softmax.hpp"

#include "autograd/record.hpp"
#include "core/factory.hpp"
#include "ops/shape.hpp"

namespace mahia {
namespace {

// An op over the last axis, used along any axis: the axis goes last and back again.
template <class Fn>
Tensor along_last(const char* op, const Tensor& x, int64_t axis, Fn&& fn) {
  const int a = normalize_axis(op, axis, x.rank());
  if (a == x.rank() - 1) return fn(contiguous(x));
  return transpose(fn(contiguous(transpose(x, a, -1))), a, -1);
}

}  // namespace

Tensor softmax(const Tensor& x, int64_t axis) {
  check<DTypeError>(is_floating_point(x.dtype()), "softmax: needs a floating tensor, got ", x);
  return along_last("softmax", x, axis, [](const Tensor& rows) {
    Tensor y = empty_like(rows);
    kernels::softmax(rows, y.output_view());
    return record("softmax", y, {rows}, [y = save(y)](GradContext& ctx) {
      const Tensor dx = empty_like(ctx.grad());
      kernels::softmax_grad(*y, ctx.grad(), dx.output_view());
      return Tensors{dx};
    });
  });
}

Tensor log_softmax(const Tensor& x, int64_t axis) {
  check<DTypeError>(is_floating_point(x.dtype()), "log_softmax: needs a floating tensor, got ", x);
  return along_last("log_softmax", x, axis, [](const Tensor& rows) {
    Tensor y = empty_like(rows);
    kernels::log_softmax(rows, y.output_view());
    return record("log_softmax", y, {rows}, [y = save(y)](GradContext& ctx) {
      const Tensor dx = empty_like(ctx.grad());
      kernels::log_softmax_grad(*y, ctx.grad(), dx.output_view());
      return Tensors{dx};
    });
  });
}

}  // namespace mahia
