// SPDX-License-Identifier: Apache-2.0
#include "ops/index.hpp"

#include <algorithm>

#include "autograd/record.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/compare.hpp"
#include "ops/cumsum.hpp"
#include "ops/shape.hpp"

namespace mahia {
namespace {

// The indices, contiguous and checked against [0, size).
Tensor checked(const char* op, const Tensor& index, int64_t size) {
  check<DTypeError>(index.dtype() == DType::i64 || index.dtype() == DType::i32, op, ": needs i64 or i32 indices, got ",
                    index);
  const Tensor flat = contiguous(index.detach());
  if (flat.numel() > 0) kernels::check_index(flat, op, size);
  return flat;
}

// The shape of x seen as (outer, axis, inner).
Shape three(const Shape& shape, int axis) {
  Shape out{1, shape[axis], 1};
  for (int i = 0; i < shape.rank(); ++i) {
    if (i != axis) out[i < axis ? 0 : 2] *= shape[i];
  }
  return out;
}

Tensor as_three(const Tensor& x, int axis) { return reshape(contiguous(x.detach()), three(x.shape(), axis)); }

// Zeros of `shape` with source's slices added at `index` of `axis`.
Tensor scattered(const Tensor& source, const Shape& shape, int axis, const Tensor& index) {
  const Tensor y = zeros(shape, source.dtype(), source.device());
  if (source.numel() > 0) {
    kernels::index_add(index, as_three(source, axis), reshape(y, three(shape, axis)).output_view());
  }
  return y;
}

Tensor select_rows(const char* op, const Tensor& x, int axis, const Tensor& index, const Shape& shape) {
  const Tensor y = empty(shape, x.dtype(), x.device());
  Shape out = three(x.shape(), axis);
  out[1] = index.numel();
  if (y.numel() > 0) kernels::index_select(as_three(x, axis), index, reshape(y, out).output_view());
  return record(op, y, {x}, [index = save(index), from = x.shape(), axis](GradContext& ctx) {
    const Tensor dy = ctx.grad();
    Shape rows = from;
    const Tensor places = *index;
    rows[axis] = places.numel();
    return Tensors{scattered(reshape(dy, rows), from, axis, places)};
  });
}

}  // namespace

Tensor embedding(const Tensor& ids, const Tensor& weight) {
  check<ShapeError>(weight.rank() == 2, "embedding: needs a weight (V, D), got ", weight);
  const Tensor index = checked("embedding", ids, weight.size(0));
  Shape shape = ids.shape();
  shape.push_back(weight.size(1));
  return select_rows("embedding", weight, 0, index, shape);
}

Tensor index_select(const Tensor& x, int64_t axis, const Tensor& index) {
  const int a = normalize_axis("index_select", axis, x.rank());
  check<ShapeError>(index.rank() == 1, "index_select: needs an index (n), got ", index, " for ", x);
  Shape shape = x.shape();
  shape[a] = index.size(0);
  return select_rows("index_select", x, a, checked("index_select", index, x.size(a)), shape);
}

Tensor index_add(const Tensor& x, int64_t axis, const Tensor& index, const Tensor& source) {
  const int a = normalize_axis("index_add", axis, x.rank());
  Shape expected = x.shape();
  check<ShapeError>(index.rank() == 1, "index_add: needs an index (n), got ", index, " for ", x);
  expected[a] = index.size(0);
  check<ShapeError>(source.shape() == expected, "index_add: source must have shape ", expected, ": x ", x, ", index ",
                    index, ", source ", source);
  check<DTypeError>(is_floating_point(x.dtype()) && x.dtype() == source.dtype(),
                    "index_add: needs floating tensors of one dtype: x ", x, ", source ", source);
  const Tensor places = checked("index_add", index, x.size(a));
  const Tensor y = clone(x);
  if (source.numel() > 0) {
    kernels::index_add(places, as_three(source, a), reshape(y, three(x.shape(), a)).output_view());
  }
  return record("index_add", y, {x, source}, [places = save(places), a](GradContext& ctx) {
    return Tensors{ctx.needs(0) ? ctx.grad() : Tensor(),
                   ctx.needs(1) ? index_select(ctx.grad(), a, *places) : Tensor()};
  });
}

Tensor gather(const Tensor& x, int64_t axis, const Tensor& index) {
  const int a = normalize_axis("gather", axis, x.rank());
  check<ShapeError>(index.rank() == x.rank(), "gather: ranks differ: x ", x, ", index ", index);
  for (int i = 0; i < x.rank(); ++i) {
    check<ShapeError>(i == a || index.size(i) <= x.size(i), "gather: index is larger than x off axis ", a, ": x ", x,
                      ", index ", index);
  }
  Tensor source = x;
  for (int i = 0; i < x.rank(); ++i) {
    if (i != a && index.size(i) < x.size(i)) source = narrow(source, i, 0, index.size(i));
  }
  const Tensor places = checked("gather", index, x.size(a));
  const Tensor y = empty(index.shape(), x.dtype(), x.device());
  if (y.numel() > 0) {
    const Shape out = three(index.shape(), a);
    kernels::gather(as_three(source, a), reshape(places, out), reshape(y, out).output_view());
  }
  return record("gather", y, {source}, [places = save(places), from = source.shape(), a](GradContext& ctx) {
    const Tensor dy = ctx.grad(), dx = empty(from, dy.dtype(), dy.device());
    const Shape out = three(dy.shape(), a);
    if (dx.numel() > 0) {
      kernels::gather_grad(reshape(*places, out), reshape(dy, out), reshape(dx, three(from, a)).output_view());
    }
    return Tensors{dx};
  });
}

Tensor one_hot(const Tensor& ids, int64_t num_classes) {
  check<ValueError>(num_classes >= 1, "one_hot: num_classes is ", num_classes, ", must be at least 1");
  checked("one_hot", ids, num_classes);
  const Tensor numbers = cumsum(ones({num_classes}, DType::i64, ids.device()), 0) - 1.0;  // made on the device
  return to(eq(unsqueeze(ids, -1), numbers), DType::i64);
}

Tensor bincount(const Tensor& ids, int64_t minlength) {
  check<ValueError>(minlength >= 0, "bincount: minlength is ", minlength, ", must not be negative");
  const std::vector<int64_t> values = ids.to_vector<int64_t>();  // the length depends on them
  const int64_t largest = values.empty() ? -1 : *std::max_element(values.begin(), values.end());
  const int64_t length = std::max(minlength, largest + 1);
  const Tensor index = checked("bincount", ids, length);
  const Tensor counts = zeros({length}, DType::i64, ids.device());
  if (ids.numel() > 0) kernels::bincount(index, counts.output_view());
  return counts;
}

}  // namespace mahia
