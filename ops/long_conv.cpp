// SPDX-License-Identifier: Apache-2.0
#include "ops/long_conv.hpp"

#include "autograd/record.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/shape.hpp"
#include "ops/signal.hpp"

namespace mahia {
namespace {

void check_operands(const Tensor& u, const Tensor& h, const LongConvOptions& options) {
  const auto& [skip, before, after] = options;
  const bool is_float = is_floating_point(u.dtype()) && u.dtype() != DType::f16;
  check<DTypeError>(is_float, "long_conv: needs f64, f32 or bf16, got u ", u);
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
  check_filter_dtype("long_conv", u, h);
  check_filter_dtype("long_conv", u, skip);
}

View output(const Tensor& x) { return x ? x.output_view() : View(); }

Tensor wanted(const GradContext& ctx, int input, const Tensor& like) {
  return ctx.needs(input) ? empty_signal(like, like.size(2)) : Tensor();
}

// Room for dh, or for its first tap alone when only skip, which acts as that tap, wants a gradient.
Tensor filter_gradient(const GradContext& ctx, const Tensor& h) {
  if (ctx.needs(1)) return empty_like(h);
  return ctx.needs(2) ? empty({h.size(0), 1}, h.dtype(), h.device()) : Tensor();
}

Tensor in_dtype(const Tensor& x, DType dtype) { return copy_to(x, x.device(), dtype); }

}  // namespace

Tensor long_conv(const Tensor& u, const Tensor& h, const LongConvOptions& options) {
  check_operands(u, h, options);
  const auto& [skip, gate_before, gate_after] = options;
  const Tensor signal = time_contiguous(u), before = time_contiguous(gate_before), after = time_contiguous(gate_after);
  const Tensor filter = widened_filter(h, u.dtype()), direct = widened_filter(skip, u.dtype());
  const bool keeps_ungated = grad_enabled() && after && after.requires_grad();
  const Tensor ungated = keeps_ungated ? empty_signal(signal, signal.size(2)) : Tensor();
  Tensor y = empty_signal(signal, signal.size(2));
  if (y.numel() > 0) kernels::long_conv(signal, filter, direct, before, after, output(y), output(ungated));
  return record(
      "long_conv", y, {signal, h, skip, before, after},
      [u = save(signal), h = save(filter), skip = save(direct), before = save(before), after = save(after),
       ungated = save(ungated), h_dtype = h.dtype(), skip_dtype = skip ? skip.dtype() : h.dtype()](GradContext& ctx) {
        const Tensor du = wanted(ctx, 0, *u), dbefore = wanted(ctx, 3, *u), dafter = wanted(ctx, 4, *u);
        const Tensor dh = filter_gradient(ctx, *h), dy = time_contiguous(ctx.strided_grad());
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
