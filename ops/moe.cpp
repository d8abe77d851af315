// SPDX-License-Identifier: Apache-2.0
#include "ops/moe.hpp"

#include <algorithm>
#include <limits>

#include "autograd/record.hpp"
#include "core/factory.hpp"
#include "ops/shape.hpp"

namespace mahia {
namespace {

MoePlan plan_of(const Tensor& indices, int64_t num_experts, int64_t most, bool whole) {
  check<DTypeError>(indices.dtype() == DType::i64, "moe_plan: needs i64 indices, got ", indices);
  check<ShapeError>(indices.rank() == 2, "moe_plan: needs indices (N, k), got ", indices);
  check<ValueError>(num_experts >= 1, "moe_plan: num_experts is ", num_experts, ", must be at least 1");
  const int64_t pairs = indices.numel();
  check<ValueError>(pairs <= std::numeric_limits<int32_t>::max(), "moe_plan: ", pairs, " pairs exceed 2^31: ", indices);
  const Device device = indices.device();
  const MoePlan plan{empty({std::min(most, pairs)}, DType::i32, device),
                     empty({pairs}, DType::i32, device),
                     empty({num_experts + 1}, DType::i32, device),
                     empty({num_experts}, DType::i64, device),
                     indices.size(0),
                     indices.size(1),
                     whole};
  kernels::moe_plan(contiguous(indices.detach()), whole, plan.order.output_view(), plan.place.output_view(),
                    plan.offsets.output_view(), plan.counts.output_view());
  return plan;
}

}  // namespace

MoePlan moe_plan(const Tensor& indices, int64_t num_experts) {
  return plan_of(indices, num_experts, indices.numel(), true);
}

MoePlan moe_plan_with_gaps(const Tensor& indices, int64_t num_experts, int64_t most) {
  check<ValueError>(most >= 0, "moe_plan: at most ", most, " pairs cannot be");
  return plan_of(indices, num_experts, most, false);
}

Tensor moe_dispatch(const Tensor& x, const MoePlan& plan) {
  check<ShapeError>(x.rank() == 2 && x.size(0) == plan.tokens, "moe_dispatch: x must be (N, D) with the plan's ",
                    plan.tokens, " tokens, got ", x);
  const Tensor rows = contiguous(x);
  const int64_t k = plan.choices;
  const Tensor y = empty({plan.order.numel(), x.size(1)}, x.dtype(), x.device());
  if (y.numel() > 0) kernels::moe_dispatch(rows, plan.order, k, y.output_view());
  return record("moe_dispatch", y, {rows}, [place = save(plan.place), shape = x.shape(), k](GradContext& ctx) {
    const Tensor dy = ctx.grad();
    const Tensor dx = empty(shape, dy.dtype(), dy.device());
    if (dx.numel() > 0) kernels::moe_combine(dy, ConstView(), *place, k, dx.output_view());
    return Tensors{dx};
  });
}

Tensor moe_combine(const Tensor& rows, const Tensor& weights, const MoePlan& plan) {
  check<DTypeError>(is_floating_point(rows.dtype()) && is_floating_point(weights.dtype()),
                    "moe_combine: needs floating tensors: rows ", rows, ", weights ", weights);
  check<ShapeError>(
      rows.rank() == 2 && rows.size(0) == plan.order.numel() && weights.shape() == Shape{plan.tokens, plan.choices},
      "moe_combine: rows (R, D), weights (N, k) and the plan's ", plan.order.numel(), " rows of ", plan.tokens,
      " tokens with ", plan.choices, " choices disagree: rows ", rows, ", weights ", weights);
  const Tensor y_rows = contiguous(rows), w = contiguous(weights);
  const int64_t k = weights.size(1);
  const Tensor y = empty({weights.size(0), rows.size(1)}, rows.dtype(), rows.device());
  if (y.numel() > 0) kernels::moe_combine(y_rows, w, plan.place, k, y.output_view());
  return record("moe_combine", y, {y_rows, w},
                [rows = save(y_rows), w = save(w), place = save(plan.place), whole = plan.whole](GradContext& ctx) {
                  const Tensor dy = ctx.grad(), y_saved = *rows, w_saved = *w;
                  Tensors grads = {ctx.needs(0) ? (whole ? empty_like(y_saved) : zeros_like(y_saved)) : Tensor(),
                                   ctx.needs(1) ? empty_like(w_saved) : Tensor()};
                  if (w_saved.numel() > 0) {
                    kernels::moe_combine_grad(y_saved, w_saved, *place, dy,
                                              grads[0].defined() ? grads[0].output_view() : View(),
                                              grads[1].defined() ? grads[1].output_view() : View());
                  }
                  return grads;
                });
}

}  // namespace mahia
