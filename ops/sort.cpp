// SPDX-License-Identifier: Apache-2.0
#include "ops/sort.hpp"

#include "autograd/grad_mode.hpp"
#include "core/factory.hpp"
#include "ops/index.hpp"
#include "ops/shape.hpp"

namespace mahia {
namespace {

// The indices of the first k in order along `axis`; the values are gathered, and with them the gradient.
Sorted first_in_order(const char* op, const Tensor& x, int64_t k, int64_t axis, bool descending) {
  check<DTypeError>(x.dtype() != DType::f16, op, ": has no f16, got ", x);
  const int a = normalize_axis(op, axis, x.rank());
  check<ValueError>(k >= 0 && k <= x.size(a), op, ": k is ", k, ", must be in [0, ", x.size(a), "]: ", x);
  Tensor indices;
  {
    const NoGrad no_grad;
    const Tensor rows = contiguous(transpose(x.detach(), a, -1));
    Shape shape = rows.shape();
    shape[shape.rank() - 1] = k;
    const Tensor order = empty(shape, DType::i64, x.device());
    if (order.numel() > 0) {
      kernels::sort(reshape(rows, {-1, x.size(a)}), reshape(order, {-1, k}).output_view(), descending);
    }
    indices = contiguous(transpose(order, a, -1));
  }
  return {gather(x, a, indices), indices};
}

}  // namespace

Sorted topk(const Tensor& x, int64_t k, int64_t axis) { return first_in_order("topk", x, k, axis, true); }

Sorted sort(const Tensor& x, int64_t axis, bool descending) {
  return first_in_order("sort", x, x.size(normalize_axis("sort", axis, x.rank())), axis, descending);
}

Tensor argsort(const Tensor& x, int64_t axis, bool descending) {
  const NoGrad no_grad;
  return first_in_order("argsort", x, x.size(normalize_axis("argsort", axis, x.rank())), axis, descending).indices;
}

}  // namespace mahia
