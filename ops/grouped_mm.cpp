// SPDX-License-Identifier: Apache-2.0
#include "ops/grouped_mm.hpp"

#include <limits>

#include "autograd/record.hpp"
#include "core/factory.hpp"
#include "ops/shape.hpp"

namespace mahia {
namespace {

void check_operands(const Tensor& x, const Tensor& weight, const Tensor& offsets, const Tensor& bias) {
  check<DTypeError>(
      is_floating_point(x.dtype()) && x.dtype() == weight.dtype() && (!bias.defined() || x.dtype() == bias.dtype()),
      "grouped_mm: needs one floating dtype: x ", x, ", weight ", weight, ", bias ", bias);
  check<ShapeError>(x.rank() == 2 && weight.rank() == 3 && x.size(1) == weight.size(2),
                    "grouped_mm: x (N, in) and weight (E, out, in) disagree: x ", x, ", weight ", weight);
  check<ShapeError>(x.size(0) <= std::numeric_limits<int32_t>::max(),
                    "grouped_mm: offsets are i32 and cannot count the rows of x ", x);
  check<DTypeError>(offsets.dtype() == DType::i32, "grouped_mm: offsets must be i32: offsets ", offsets);
  check<ShapeError>(offsets.shape() == Shape{weight.size(0) + 1},
                    "grouped_mm: weight (E, out, in) and offsets (E + 1) disagree on `E`: weight ", weight,
                    ", offsets ", offsets);
  check<ShapeError>(!bias.defined() || bias.shape() == Shape{weight.size(0), weight.size(1)},
                    "grouped_mm: weight (E, out, in) and bias (E, out) disagree: weight ", weight, ", bias ", bias);
}

}  // namespace

Tensor grouped_mm(const Tensor& x, const Tensor& weight, const Tensor& offsets, const Tensor& bias) {
  check_operands(x, weight, offsets, bias);
  const Tensor y = empty({x.size(0), weight.size(1)}, x.dtype(), x.device());
  {
    const NoGrad no_grad;
    kernels::grouped_mm(x, weight, contiguous(offsets), bias.defined() ? contiguous(bias) : bias, y.output_view());
  }
  return record("grouped_mm", y, {x, weight, bias},
                [x = save(x), weight = save(weight), offsets = save(contiguous(offsets))](GradContext& ctx) {
                  Tensors grads(3);
                  if (ctx.needs(0)) {
                    grads[0] = empty_like(*x);
                    kernels::grouped_mm(ctx.grad(), transpose(*weight, 1, 2), *offsets, {}, grads[0].output_view());
                  }
                  const Tensor weights = *weight;
                  if (ctx.needs(1)) grads[1] = empty_like(weights);
                  if (ctx.needs(2))
                    grads[2] = empty({weights.size(0), weights.size(1)}, weights.dtype(), weights.device());
                  if (ctx.needs(1) || ctx.needs(2)) {
                    const auto output = [](const Tensor& t) { return t.defined() ? t.output_view() : View(); };
                    kernels::grouped_mm_weight_grad(contiguous(*x), ctx.grad(), *offsets, output(grads[1]),
                                                    output(grads[2]));
                  }
                  return grads;
                });
}

}  // namespace mahia
