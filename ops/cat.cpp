// SPDX-License-Identifier: Apache-2.0
#include "ops/cat.hpp"

#include <algorithm>
#include <array>

#include "autograd/record.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/shape.hpp"

namespace mahia {
namespace {

// Writes under NoGrad into a part of an output that its op has just made.
void write(const Tensor& x, const Tensor& part) { kernels::copy(x, part.output_view()); }

// x with negative steps along `axes`, copied: there are no views with negative strides.
Tensor reversed(const Tensor& x, const Shape& axes) {
  const NoGrad no_grad;
  Tensor y = x;
  for (const int64_t axis : axes) {
    const Tensor next = empty_like(y);
    const int64_t n = y.size(axis);
    for (int64_t i = 0; i < n; ++i) write(narrow(y, axis, i, 1), narrow(next, axis, n - 1 - i, 1));
    y = next;
  }
  return y.is_same(x) ? clone(x) : y;
}

// The overlap of x and its padded form, as (axis, start in x, start in y, length).
struct Overlap {
  Shape from, to, size;
};

Overlap overlap_of(const Shape& x, const Shape& pads) {
  Overlap o{x, x, x};
  for (int i = 0; i < x.rank(); ++i) {
    const int at = 2 * (x.rank() - 1 - i);
    const int64_t left = at < pads.rank() ? pads[at] : 0, right = at < pads.rank() ? pads[at + 1] : 0;
    o.from[i] = std::max<int64_t>(0, -left);
    o.to[i] = std::max<int64_t>(0, left);
    o.size[i] = x[i] - o.from[i] - std::max<int64_t>(0, -right);
  }
  return o;
}

Tensor box(Tensor x, const Shape& start, const Shape& size) {
  for (int i = 0; i < x.rank(); ++i) x = narrow(x, i, start[i], size[i]);
  return x;
}

}  // namespace

Tensor cat(const Tensors& xs, int64_t axis) {
  check<ValueError>(!xs.empty(), "cat: needs at least one tensor");
  const int a = normalize_axis("cat", axis, xs[0].rank());
  Shape shape = xs[0].shape();
  shape[a] = 0;
  std::vector<int64_t> sizes;
  for (const Tensor& x : xs) {
    Shape rest = x.shape();
    check<DTypeError>(x.dtype() == xs[0].dtype(), "cat: dtypes differ: ", xs[0], " and ", x);
    check<ShapeError>(x.rank() == shape.rank(), "cat: ranks differ: ", xs[0], " and ", x);
    rest[a] = shape[a];
    check<ShapeError>(rest == shape, "cat: sizes off axis ", a, " differ: ", xs[0], " and ", x);
    sizes.push_back(x.shape()[a]);
    shape[a] += x.shape()[a];
  }
  const Tensor y = empty(shape, xs[0].dtype(), xs[0].device());
  {
    const NoGrad no_grad;
    int64_t at = 0;
    for (size_t i = 0; i < xs.size(); at += sizes[i++]) write(xs[i], narrow(y, a, at, sizes[i]));
  }
  return record("cat", {y}, xs, [sizes, a](GradContext& ctx) { return split(ctx.strided_grad(), sizes, a); })[0];
}

Tensor stack(const Tensors& xs, int64_t axis) {
  check<ValueError>(!xs.empty(), "stack: needs at least one tensor");
  const int a = normalize_axis("stack", axis, xs[0].rank() + 1);
  Tensors rows;
  for (const Tensor& x : xs) {
    check<ShapeError>(x.shape() == xs[0].shape(), "stack: shapes differ: ", xs[0], " and ", x);
    rows.push_back(unsqueeze(x, a));
  }
  return cat(rows, a);
}

Tensor flip(const Tensor& x, const Shape& axes) {
  std::array<bool, max_rank> seen{};
  for (const int64_t axis : axes) {
    bool& mark = seen[static_cast<size_t>(normalize_axis("flip", axis, x.rank()))];
    check<ValueError>(!mark, "flip: axis ", axis, " appears twice in ", axes, ": ", x);
    mark = true;
  }
  return record("flip", reversed(x, axes), {x},
                [axes](GradContext& ctx) { return Tensors{reversed(ctx.strided_grad(), axes)}; });
}

Tensor pad(const Tensor& x, const Shape& pads, double value) {
  check<ShapeError>(pads.rank() % 2 == 0 && pads.rank() <= 2 * x.rank(), "pad: needs (left, right) for at most ",
                    x.rank(), " axes, got ", pads, " for ", x);
  Shape shape = x.shape();
  for (int i = 0; i < pads.rank() / 2; ++i) {
    const int axis = x.rank() - 1 - i;
    const int64_t n = x.shape()[axis], left = pads[2 * i], right = pads[2 * i + 1];
    const bool fits = left >= -n && right >= -n && n + std::min<int64_t>(left, 0) + std::min<int64_t>(right, 0) >= 0;
    check<ShapeError>(fits, "pad: ", pads, " crops more than axis ", axis, " of ", x);
    shape[axis] += left + right;
  }
  const Overlap o = overlap_of(x.shape(), pads);
  const Tensor y = full(shape, value, x.dtype(), x.device());
  {
    const NoGrad no_grad;
    write(box(x, o.from, o.size), box(y, o.to, o.size));
  }
  return record("pad", y, {x}, [from = x.shape(), pads](GradContext& ctx) {
    const Overlap back = overlap_of(from, pads);
    const Tensor dx = zeros(from, ctx.strided_grad().dtype(), ctx.strided_grad().device());
    write(box(ctx.strided_grad(), back.to, back.size), box(dx, back.from, back.size));
    return Tensors{dx};
  });
}

}  // namespace mahia
