// SPDX-License-Identifier: Apache-2.0
#include "ops/shape.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include "autograd/record.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/reduce.hpp"

namespace mahia {
namespace {

Tensor view_of(const Tensor& x, const Shape& shape, const Shape& strides, int64_t offset) {
  return {x.storage(), shape, strides, offset, x.dtype()};
}

// The strides that show x as `shape` without a copy, or nothing. Both have the same number of elements.
std::optional<Shape> strides_for(const Tensor& x, const Shape& shape) {
  if (x.is_contiguous()) return contiguous_strides(shape);
  Shape strides = shape;
  int to = shape.rank() - 1;
  int from = x.rank() - 1;
  while (from >= 0) {
    // A run of axes of x that lie one in the other is one long axis; it must be filled exactly by axes of `shape`.
    const int64_t step = x.strides()[from];
    int64_t run = x.shape()[from];
    while (from > 0 && (x.shape()[from - 1] == 1 || x.strides()[from - 1] == step * run)) run *= x.shape()[--from];
    int64_t filled = 1;
    while (to >= 0 && filled < run) {
      strides[to] = step * filled;
      filled *= shape[to--];
    }
    if (filled != run) return std::nullopt;
    --from;
  }
  for (; to >= 0; --to) strides[to] = 1;  // only axes of size 1 are left
  return strides;
}

Tensor narrow_view(const Tensor& x, int axis, int64_t start, int64_t length) {
  Shape shape = x.shape();
  shape[axis] = length;
  return view_of(x, shape, x.strides(), x.offset() + start * x.strides()[axis]);
}

Shape resolve(const Tensor& x, Shape shape) {
  const Shape wanted = shape;
  int open = -1;
  for (int i = 0; i < shape.rank(); ++i) {
    check<ShapeError>(shape[i] >= -1 && (shape[i] != -1 || open < 0), "reshape: bad shape ", wanted, " for ", x);
    if (shape[i] == -1) shape[open = i] = 1;
  }
  const int64_t known = numel(shape);
  if (open >= 0) {
    check<ShapeError>(known != 0, "reshape: -1 is ambiguous in ", wanted, " for ", x);
    shape[open] = x.numel() / known;
  }
  const int64_t found = open >= 0 ? known * shape[open] : known;  // at most x.numel() when a dim was open
  check<ShapeError>(found == x.numel(), "reshape: ", x, " does not have the ", found, " elements of ", shape);
  return shape;
}

}  // namespace

Tensor contiguous(const Tensor& x) {
  if (x.is_contiguous()) return x;
  return record("contiguous", clone(x), {x}, [](GradContext& ctx) { return Tensors{ctx.strided_grad()}; });
}

Tensor reshape(const Tensor& x, Shape shape) {
  shape = resolve(x, shape);
  if (x.numel() == 0)
    return record("reshape", view_of(x, shape, contiguous_strides(shape), x.offset()), {x},
                  [from = x.shape()](GradContext& ctx) { return Tensors{reshape(ctx.grad(), from)}; });
  const std::optional<Shape> strides = strides_for(x, shape);
  const Tensor source = strides ? x : clone(x);
  const Tensor y = view_of(source, shape, strides ? *strides : contiguous_strides(shape), source.offset());
  return record("reshape", y, {x},
                [from = x.shape()](GradContext& ctx) { return Tensors{reshape(ctx.strided_grad(), from)}; });
}

Tensor flatten(const Tensor& x, int64_t first, int64_t last) {
  if (x.rank() == 0) return reshape(x, {1});
  const int a = normalize_axis("flatten", first, x.rank()), b = normalize_axis("flatten", last, x.rank());
  check<ValueError>(a <= b, "flatten: axis ", first, " comes after axis ", last, ": ", x);
  Shape shape;
  int64_t joined = 1;
  for (int i = 0; i < x.rank(); ++i) {
    if (i >= a && i <= b) joined *= x.shape()[i];
    if (i == b) shape.push_back(joined);
    if (i < a || i > b) shape.push_back(x.shape()[i]);
  }
  return reshape(x, shape);
}

Tensor permute(const Tensor& x, const Shape& axes) {
  check<ShapeError>(axes.rank() == x.rank(), "permute: axes ", axes, " for ", x);
  Shape shape = x.shape(), strides = x.strides(), inverse = axes;
  std::array<bool, max_rank> seen{};
  for (int i = 0; i < axes.rank(); ++i) {
    const int a = normalize_axis("permute", axes[i], x.rank());
    check<ValueError>(!seen[static_cast<size_t>(a)], "permute: axis ", a, " appears twice in ", axes);
    seen[static_cast<size_t>(a)] = true;
    shape[i] = x.shape()[a];
    strides[i] = x.strides()[a];
    inverse[a] = i;
  }
  return record("permute", view_of(x, shape, strides, x.offset()), {x},
                [inverse](GradContext& ctx) { return Tensors{permute(ctx.strided_grad(), inverse)}; });
}

Tensor transpose(const Tensor& x, int64_t a, int64_t b) {
  const int first = normalize_axis("transpose", a, x.rank()), second = normalize_axis("transpose", b, x.rank());
  Shape axes;
  for (int i = 0; i < x.rank(); ++i) axes.push_back(i == first ? second : i == second ? first : i);
  return permute(x, axes);
}

Tensor unsqueeze(const Tensor& x, int64_t axis) {
  const int a = normalize_axis("unsqueeze", axis, x.rank() + 1);
  Shape shape = x.shape(), strides = x.strides();
  strides.insert(a, a < x.rank() ? x.shape()[a] * x.strides()[a] : 1);
  shape.insert(a, 1);
  return record("unsqueeze", view_of(x, shape, strides, x.offset()), {x},
                [a](GradContext& ctx) { return Tensors{squeeze(ctx.strided_grad(), a)}; });
}

Tensor squeeze(const Tensor& x, int64_t axis) {
  const int a = normalize_axis("squeeze", axis, x.rank());
  check<ShapeError>(x.shape()[a] == 1, "squeeze: axis ", a, " has size ", x.shape()[a], ", not 1: ", x);
  Shape shape = x.shape(), strides = x.strides();
  shape.erase(a);
  strides.erase(a);
  return record("squeeze", view_of(x, shape, strides, x.offset()), {x},
                [a](GradContext& ctx) { return Tensors{unsqueeze(ctx.strided_grad(), a)}; });
}

Tensor expand(const Tensor& x, const Shape& wanted) {
  const int lead = wanted.rank() - x.rank();
  check<ShapeError>(lead >= 0, "expand: ", x, " has more axes than ", wanted);
  Shape shape = wanted, strides = wanted;
  for (int i = 0; i < wanted.rank(); ++i) {
    const int64_t size = i < lead ? 1 : x.shape()[i - lead];
    if (wanted[i] == -1 && i >= lead) shape[i] = size;
    check<ShapeError>(shape[i] >= 0 && (size == 1 || size == shape[i]), "expand: ", x, " does not expand to ", wanted,
                      " on axis ", i);
    strides[i] = i < lead || (size == 1 && shape[i] != 1) ? 0 : x.strides()[i - lead];
  }
  numel(shape);  // throws when there are too many elements to count
  return record("expand", view_of(x, shape, strides, x.offset()), {x},
                [from = x.shape()](GradContext& ctx) { return Tensors{sum_to(ctx.grad(), from)}; });
}

Tensor narrow(const Tensor& x, int64_t axis, int64_t start, int64_t length) {
  const int a = normalize_axis("narrow", axis, x.rank());
  check<IndexError>(start >= 0 && length >= 0 && start <= x.shape()[a] - length, "narrow: ", length, " from ", start,
                    " on is outside axis ", a, " of ", x);
  return record("narrow", narrow_view(x, a, start, length), {x},
                [from = x.shape(), a, start, length](GradContext& ctx) {
                  const Tensor dx = zeros(from, ctx.strided_grad().dtype(), ctx.strided_grad().device());
                  kernels::copy(ctx.strided_grad(), narrow_view(dx, a, start, length).output_view());
                  return Tensors{dx};
                });
}

Tensor select(const Tensor& x, int64_t axis, int64_t index) {
  const int a = normalize_axis("select", axis, x.rank());
  const int64_t size = x.shape()[a];
  check<IndexError>(index >= -size && index < size, "select: index ", index, " is outside axis ", a, " of ", x);
  return squeeze(narrow(x, a, index < 0 ? index + size : index, 1), a);
}

Tensors split(const Tensor& x, const std::vector<int64_t>& sizes, int64_t axis) {
  const int a = normalize_axis("split", axis, x.rank());
  Tensors pieces;
  int64_t start = 0;
  for (const int64_t size : sizes) {
    check<ShapeError>(size >= 0 && size <= x.shape()[a] - start, "split: the sizes exceed axis ", a, " of ", x);
    pieces.push_back(narrow_view(x, a, start, size));
    start += size;
  }
  check<ShapeError>(start == x.shape()[a], "split: the sizes add up to ", start, ", not to axis ", a, " of ", x);
  return record("split", pieces, {x},
                [from = x.shape(), dtype = x.dtype(), device = x.device(), sizes, a](GradContext& ctx) {
                  const Tensor dx = empty(from, dtype, device);
                  int64_t at = 0;
                  for (size_t k = 0; k < sizes.size(); ++k) {
                    const View part = narrow_view(dx, a, at, sizes[k]).output_view();
                    const int output = static_cast<int>(k);
                    if (ctx.has(output)) {
                      kernels::copy(ctx.strided_grad(output), part);
                    } else {
                      kernels::fill(part, 0);
                    }
                    at += sizes[k];
                  }
                  return Tensors{dx};
                });
}

Tensors split(const Tensor& x, int64_t size, int64_t axis) {
  const int a = normalize_axis("split", axis, x.rank());
  check<ValueError>(size >= 1, "split: size is ", size, ", must be at least 1");
  std::vector<int64_t> sizes;
  for (int64_t left = x.shape()[a]; left > 0; left -= size) sizes.push_back(std::min(size, left));
  if (sizes.empty()) sizes.push_back(0);
  return split(x, sizes, a);
}

Tensors chunk(const Tensor& x, int64_t chunks, int64_t axis) {
  const int a = normalize_axis("chunk", axis, x.rank());
  check<ValueError>(chunks >= 1, "chunk: chunks is ", chunks, ", must be at least 1");
  const int64_t n = x.shape()[a];
  if (n == 0) return split(x, std::vector<int64_t>(static_cast<size_t>(chunks), 0), a);
  return split(x, n / chunks + (n % chunks != 0), a);
}

}  // namespace mahia
