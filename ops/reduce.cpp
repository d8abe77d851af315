// SPDX-License-Identifier: Apache-2.0
#include "ops/reduce.hpp"

#include <array>

#include "autograd/record.hpp"
#include "core/factory.hpp"
#include "ops/shape.hpp"

namespace mahia {
namespace {

std::array<bool, max_rank> reduced_axes(const char* op, const Tensor& x, const Shape& axes) {
  std::array<bool, max_rank> reduced{};
  for (int i = 0; i < x.rank(); ++i) reduced[static_cast<size_t>(i)] = axes.empty();
  for (const int64_t axis : axes) {
    bool& mark = reduced[static_cast<size_t>(normalize_axis(op, axis, x.rank()))];
    check<ValueError>(!mark, op, ": axis ", axis, " appears twice in ", axes);
    mark = true;
  }
  return reduced;
}

// Sums each run of neighbouring reduced axes in one kernel call; reduced axes stay with size 1.
Tensor sum_keepdim(const Tensor& x, const std::array<bool, max_rank>& reduced) {
  Tensor y = contiguous(x);
  for (int axis = x.rank() - 1; axis >= 0; --axis) {
    if (!reduced[static_cast<size_t>(axis)]) continue;
    int first = axis;
    while (first > 0 && reduced[static_cast<size_t>(first - 1)]) --first;
    Shape shape = y.shape();
    int64_t outer = 1, n = 1, inner = 1;
    for (int i = 0; i < first; ++i) outer *= shape[i];
    for (int i = first; i <= axis; ++i) {
      n *= shape[i];
      shape[i] = 1;
    }
    for (int i = axis + 1; i < x.rank(); ++i) inner *= shape[i];
    const Tensor next = empty(shape, y.dtype(), y.device());
    if (next.numel() > 0) kernels::sum(reshape(y, {outer, n, inner}), reshape(next, {outer, inner}).output_view());
    y = next;
    axis = first;
  }
  return y;
}

Shape without(const Shape& shape, const std::array<bool, max_rank>& reduced) {
  Shape out;
  for (int i = 0; i < shape.rank(); ++i) {
    if (!reduced[static_cast<size_t>(i)]) out.push_back(shape[i]);
  }
  return out;
}

}  // namespace

Tensor sum(const Tensor& x, const Shape& axes, bool keepdim) {
  check<DTypeError>(is_floating_point(x.dtype()), "sum: needs a floating tensor, got ", x);
  const auto reduced = reduced_axes("sum", x, axes);
  Tensor y;
  Shape kept;
  {
    const NoGrad no_grad;
    y = sum_keepdim(x, reduced);
    kept = y.shape();
    y = keepdim ? y : reshape(y, without(y.shape(), reduced));
  }
  return record("sum", y.is_same(x) ? x.detach() : y, {x}, [from = x.shape(), kept](GradContext& ctx) {
    return Tensors{expand(reshape(ctx.strided_grad(), kept), from)};
  });
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  Shape axes;
  const int lead = x.rank() - shape.rank();
  for (int i = 0; i < x.rank(); ++i) {
    if (i < lead || (shape[i - lead] == 1 && x.shape()[i] != 1)) axes.push_back(i);
  }
  return reshape(axes.empty() ? x : sum(x, axes, true), shape);
}

}  // namespace mahia
