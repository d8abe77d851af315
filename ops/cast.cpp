// SPDX-License-Identifier: Apache-2.0
#include "ops/cast.hpp"

#include "autograd/record.hpp"
#include "core/copy.hpp"

namespace mahia {

Tensor to(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  const Tensor y = copy_to(x, x.device(), dtype);
  if (!is_floating_point(dtype)) return y;
  return record("to", y, {x}, [from = x.dtype()](GradContext& ctx) { return Tensors{to(ctx.strided_grad(), from)}; });
}

Tensor to(const Tensor& x, Device device) {
  if (x.device() == device) return x;
  return record("to", copy_to(x, device, x.dtype()), {x},
                [from = x.device()](GradContext& ctx) { return Tensors{to(ctx.strided_grad(), from)}; });
}

}  // namespace mahia
