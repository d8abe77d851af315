// SPDX-License-Identifier: Apache-2.0
#include "ops/cumsum.hpp"

#include "autograd/record.hpp"
#include "core/factory.hpp"
#include "ops/cast.hpp"
#include "ops/shape.hpp"

namespace mahia {
namespace {

// Without history; x is contiguous.
Tensor running_sum(const Tensor& x, int axis, bool reversed) {
  Shape flat{1, x.shape()[axis], 1};
  for (int i = 0; i < axis; ++i) flat[0] *= x.shape()[i];
  for (int i = axis + 1; i < x.rank(); ++i) flat[2] *= x.shape()[i];
  const Tensor y = empty_like(x);
  if (y.numel() > 0) kernels::cumsum(reshape(x.detach(), flat), reshape(y, flat).output_view(), reversed);
  return y;
}

}  // namespace

Tensor cumsum(const Tensor& input, int64_t axis) {
  check<DTypeError>(input.dtype() != DType::f16, "cumsum: f16 is for storage only: ", input);
  const int a = normalize_axis("cumsum", axis, input.rank());
  const Tensor x = contiguous(is_floating_point(input.dtype()) ? input : to(input, DType::i64));
  return record("cumsum", running_sum(x, a, false), {x},
                [a](GradContext& ctx) { return Tensors{running_sum(ctx.grad(), a, true)}; });
}

}  // namespace mahia
