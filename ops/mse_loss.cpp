// SPDX-License-Identifier: Apache-2.0
#include "ops/mse_loss.hpp"

#include "autograd/record.hpp"
#include "core/factory.hpp"
#include "ops/shape.hpp"

namespace mahia {

Tensor mse_loss(const Tensor& input, const Tensor& target, Reduction reduction) {
  check<DTypeError>(is_floating_point(input.dtype()) && input.dtype() == target.dtype(),
                    "mse_loss: needs two tensors of one floating dtype: x ", input, ", target ", target);
  check<ShapeError>(input.shape() == target.shape(), "mse_loss: shapes differ: x ", input, ", target ", target);
  Tensor x, t;
  {
    const NoGrad no_grad;
    x = contiguous(input);
    t = contiguous(target);
  }
  const Shape shape = reduction == Reduction::none ? x.shape() : Shape{};
  const Tensor y = empty(shape, x.dtype() == DType::bf16 ? DType::f32 : x.dtype(), x.device());
  kernels::mse_loss(x, t, reduction, y.output_view());
  return record("mse_loss", y, {input, target}, [x = save(x), t = save(t), reduction](GradContext& ctx) {
    Tensors grads(2);
    for (const int i : {0, 1}) {
      if (!ctx.needs(i)) continue;
      Tensor& grad = grads[static_cast<size_t>(i)] = empty_like(*x);
      kernels::mse_loss_grad(*x, *t, ctx.grad(), reduction, i == 0 ? 1 : -1, grad.output_view());
    }
    return grads;
  });
}

}  // namespace mahia
