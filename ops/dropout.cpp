// SPDX-License-Identifier: Apache-2.0
#include "ops/dropout.hpp"

#include "autograd/record.hpp"
#include "core/factory.hpp"
#include "ops/shape.hpp"

namespace mahia {
namespace {

Tensor masked(const Tensor& x, double p, const RandomCall& call) {
  const Tensor y = empty_like(x);
  if (y.numel() > 0) kernels::dropout(x, y.output_view(), p, call);
  return y;
}

}  // namespace

Tensor dropout(const Tensor& input, double p, const RandomCall& call) {
  check<ValueError>(p >= 0 && p <= 1, "dropout: p is ", p, ", must be in [0, 1]: x ", input);
  check<DTypeError>(is_floating_point(input.dtype()) && input.dtype() != DType::f16,
                    "dropout: needs f64, f32 or bf16, got ", input);
  if (p == 0) return input;
  const Tensor x = contiguous(input);
  return record("dropout", masked(x, p, call), {x},
                [p, call](GradContext& ctx) { return Tensors{masked(ctx.grad(), p, call)}; });
}

}  // namespace mahia
