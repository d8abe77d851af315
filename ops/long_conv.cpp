// SPDX-License-Identifier: Apache-2.0
#include "ops/long_conv.hpp"

#include "autograd/record.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/shape.hpp"

namespace mahia {
namespace {

void check_operands(const Tensor& u, const Tensor& h, const LongConvOptions& options) {
  const auto& [skip, before, after] = options;
  check<DTypeError>(is_floating_point(u.dtype()) && u.dtype() != DType::f16,
                    "long_conv: needs f64, f32 or bf16, got u ", u);
  check<ShapeError>(u.rank() == 3, "long_conv: u must be (B, D, T), got ", u);
  check<ShapeError>(h.rank() == 2 && h.size(0) == u.size(1) && h.size(1) >= 1,
                    "long_conv: h must be (D, K) with D = ", u.size(1), ", K >= 1: u ", u, ", h ", h);
  check<ShapeError>(!skip || skip.shape() == Shape{u.size(1)}, "long_conv: skip must be (D) with D = ", u.size(1),
                    ": u ", u, ", skip ", skip);
  for (const Tensor* gate : {&before, &after}) {
    const char* name = gate == &before ? "gate_before" : "gate_after";
    check<ShapeError>(!*gate || gate->shape() == u.shape(), "long_conv: ", name, " must have u's shape: u ", u, ", ",
                      name, " ", *gate);
    check<DTypeError>(!*gate || gate->dtype() == u.dtype(), "long_conv: ", name, " must have u's dtype: u ", u, ", ",
                      name, " ", *gate);
  }
  for (const Tensor* weight : {&h, &skip}) {
    check<DTypeError>(
        !*weight || weight->dtype() == u.dtype() || (weight->dtype() == DType::f32 && u.dtype() == DType::bf16),
        "long_conv: h and skip must have u's dtype, or f32 beside bf16: u ", u, ", got ", *weight);
  }
}

// x with neighbours in time next to each other; undefined stays undefined.
Tensor time_contiguous(const Tensor& x) { return !x || x.strides()[2] == 1 || x.size(2) <= 1 ? x : contiguous(x); }

// A contiguous weight or its gradient, without history.
Tensor in_dtype(const Tensor& weight, DType dtype) { return weight ? copy_to(weight, weight.device(), dtype) : weight; }

// (B, D, T), in memory (D, B, T) where u is.
Tensor empty_in_order_of(const Tensor& u) {
  const int64_t batch = u.size(0), width = u.size(1), time = u.size(2);
  if (u.strides()[0] >= u.strides()[1]) return empty_like(u);
  const Tensor y = empty({width, batch, time}, u.dtype(), u.device());
  return {y.storage(), u.shape(), {time, batch * time, 1}, 0, y.dtype()};
}

View output(const Tensor& x) { return x ? x.output_view() : View(); }

Tensor wanted(const GradContext& ctx, int input, const Tensor& like) {
  return ctx.needs(input) ? empty_in_order_of(like) : Tensor();
}

// Room for dh, or for its first tap alone when only skip, which acts as that tap, wants a gradient.
Tensor filter_gradient(const GradContext& ctx, const Tensor& h) {
  if (ctx.needs(1)) return empty_like(h);
  return ctx.needs(2) ? empty({h.size(0), 1}, h.dtype(), h.device()) : Tensor();
}

}  // namespace

Tensor long_conv(const Tensor& u, const Tensor& h, const LongConvOptions& options) {
  check_operands(u, h, options);
  const auto& [skip, gate_before, gate_after] = options;
  const DType wide = u.dtype() == DType::bf16 ? DType::f32 : u.dtype();
  const Tensor signal = time_contiguous(u), before = time_contiguous(gate_before), after = time_contiguous(gate_after);
  const Tensor filter = in_dtype(h, wide), direct = in_dtype(skip, wide);
  const bool keeps_ungated = grad_enabled() && after && after.requires_grad();
  const Tensor ungated = keeps_ungated ? empty_in_order_of(signal) : Tensor();
  Tensor y = empty_in_order_of(signal);
  if (y.numel() > 0) kernels::long_conv(signal, filter, direct, before, after, output(y), output(ungated));
  return record(
      "long_conv", y, {signal, h, skip, before, after},
      [u = save(signal), h = save(filter), skip = save(direct), before = save(before), after = save(after),
       ungated = save(ungated), h_dtype = h.dtype(), skip_dtype = skip ? skip.dtype() : wide](GradContext& ctx) {
        const Tensor du = wanted(ctx, 0, *u), dbefore = wanted(ctx, 3, *u), dafter = wanted(ctx, 4, *u);
        const Tensor dh = filter_gradient(ctx, *h);
        const Tensor dy = time_contiguous(ctx.strided_grad());
        if (dy.numel() > 0) {
          kernels::long_conv_grad(*u, *h, *skip, *before, *after, *ungated, dy, output(du), output(dh), output(dbefore),
                                  output(dafter));
        } else if (dh) {
          fill(dh, 0);
        }
        return Tensors{du, ctx.needs(1) ? in_dtype(dh, h_dtype) : Tensor(),
                       ctx.needs(2) ? in_dtype(select(dh, 1, 0), skip_dtype) : Tensor(), dbefore, dafter};
      });
}

}  // namespace mahia
