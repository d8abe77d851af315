// SPDX-License-Identifier: Apache-2.0
#include "ops/reduce.hpp"

#include <array>
#include <cmath>

#include "autograd/record.hpp"
#include "core/factory.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/pointwise.hpp"
#include "ops/shape.hpp"

namespace mahia {
namespace {

// Which axes go, what is left of the shape, and over how many elements each result is taken.
struct Reduction {
  std::array<bool, max_rank> reduced{};
  Shape kept;   // reduced axes have size 1
  Shape shape;  // of the result
  int64_t count = 1;
  int runs = 0;  // stretches of neighbouring reduced axes
};

Reduction reduction_of(const char* op, const Tensor& x, const Shape& axes, bool keepdim) {
  Reduction r;
  for (int i = 0; i < x.rank(); ++i) r.reduced[static_cast<size_t>(i)] = axes.empty();
  for (const int64_t axis : axes) {
    bool& mark = r.reduced[static_cast<size_t>(normalize_axis(op, axis, x.rank()))];
    check<ValueError>(!mark, op, ": axis ", axis, " appears twice in ", axes);
    mark = true;
  }
  bool inside = false;
  for (int i = 0; i < x.rank(); ++i) {
    const bool gone = r.reduced[static_cast<size_t>(i)];
    const int64_t size = x.shape()[i];
    r.count *= gone ? size : 1;
    r.runs += gone && !inside;
    inside = gone;
    r.kept.push_back(gone ? 1 : size);
    if (!gone || keepdim) r.shape.push_back(gone ? 1 : size);
  }
  return r;
}

ConstView seen_as(const ConstView& x, const Shape& shape) {
  return {x.raw(), shape, contiguous_strides(shape), x.dtype(), x.device()};
}

// Calls kernel(x (outer, n, inner), y (outer, inner)) for each run of reduced axes, the last first.
template <class Kernel>
Tensor reduce(const Tensor& x, const Reduction& r, DType dtype, Kernel&& kernel) {
  const NoGrad no_grad;
  if (r.runs == 0) return to(x, dtype).detach();
  Tensor y = contiguous(x);
  Shape shape = x.shape();
  int runs_left = r.runs;
  for (int last = x.rank() - 1; last >= 0; --last) {
    if (!r.reduced[static_cast<size_t>(last)]) continue;
    int first = last;
    while (first > 0 && r.reduced[static_cast<size_t>(first - 1)]) --first;
    int64_t outer = 1, n = 1, inner = 1;
    for (int i = 0; i < first; ++i) outer *= shape[i];
    for (int i = last + 1; i < x.rank(); ++i) inner *= shape[i];
    for (int i = first; i <= last; ++i) {
      n *= shape[i];
      shape[i] = 1;
    }
    const Tensor next = empty(--runs_left == 0 ? r.shape : shape, dtype, x.device());
    if (next.numel() > 0) {
      const View out = next.output_view();
      const Shape flat{outer, inner};
      kernel(seen_as(y, {outer, n, inner}), View(out.raw(), flat, contiguous_strides(flat), dtype, x.device()), n);
    }
    y = next;
    last = first;
  }
  return y;
}

void check_floating(const char* op, const Tensor& x) {
  check<DTypeError>(is_floating_point(x.dtype()) && x.dtype() != DType::f16, op, ": needs f64, f32 or bf16, got ", x);
}

// Steps between several runs would round to bf16; they are kept in f32.
bool needs_f32_between(const Tensor& x, const Reduction& r) { return x.dtype() == DType::bf16 && r.runs > 1; }

Tensor sum_of(const char* op, const Tensor& x, const Reduction& r, bool divides) {
  if (needs_f32_between(x, r)) return to(sum_of(op, to(x, DType::f32), r, divides), DType::bf16);
  const DType dtype = is_floating_point(x.dtype()) ? x.dtype() : DType::i64;
  const Tensor y = reduce(x, r, dtype, [&](const ConstView& from, const View& out, int64_t n) {
    kernels::sum(from, out, divides ? static_cast<double>(n) : 1);
  });
  return record(op, y, {x}, [from = x.shape(), kept = r.kept, n = r.count, divides](GradContext& ctx) {
    const Tensor dy = reshape(ctx.strided_grad(), kept);
    return Tensors{expand(divides ? div(dy, static_cast<double>(n)) : dy, from)};
  });
}

// The gradient of a maximum or minimum is shared by the elements that equal it.
Tensor extreme(const kernels::Extreme& kernel, const Tensor& x, const Shape& axes, bool keepdim) {
  const Reduction r = reduction_of(kernel.name(), x, axes, keepdim);
  check<DTypeError>(x.dtype() != DType::f16, kernel.name(), ": f16 is for storage only: ", x);
  check<ValueError>(r.count > 0 || numel(r.shape) == 0, kernel.name(), ": no element to choose from in axes ", axes,
                    " of ", x);
  const Tensor y = reduce(x, r, x.dtype(), [&](const ConstView& from, const View& out, int64_t) { kernel(from, out); });
  if (!is_floating_point(x.dtype())) return y;
  return record(kernel.name(), y, {x}, [x = save(x), y = save(y), kept = r.kept, axes](GradContext& ctx) {
    const Tensor dy = reshape(ctx.strided_grad(), kept);
    const Tensor chosen = to(eq(*x, reshape(*y, kept)), dy.dtype());
    return Tensors{mul(chosen, div(dy, sum(chosen, axes, true)))};
  });
}

}  // namespace

Tensor sum(const Tensor& x, const Shape& axes, bool keepdim) {
  check<DTypeError>(x.dtype() != DType::f16, "sum: f16 is for storage only: ", x);
  return sum_of("sum", x, reduction_of("sum", x, axes, keepdim), false);
}

Tensor mean(const Tensor& x, const Shape& axes, bool keepdim) {
  check_floating("mean", x);
  return sum_of("mean", x, reduction_of("mean", x, axes, keepdim), true);
}

Tensor var(const Tensor& x, const Shape& axes, double correction, bool keepdim) {
  check_floating("var", x);
  if (x.dtype() == DType::bf16) return to(var(to(x, DType::f32), axes, correction, keepdim), DType::bf16);
  const Reduction r = reduction_of("var", x, axes, keepdim);
  const Tensor distance = sub(x, mean(x, axes, true));
  return div(sum(mul(distance, distance), axes, keepdim), static_cast<double>(r.count) - correction);
}

Tensor amax(const Tensor& x, const Shape& axes, bool keepdim) { return extreme(kernels::amax, x, axes, keepdim); }
Tensor amin(const Tensor& x, const Shape& axes, bool keepdim) { return extreme(kernels::amin, x, axes, keepdim); }

Tensor logsumexp(const Tensor& x, const Shape& axes, bool keepdim) {
  check_floating("logsumexp", x);
  if (x.dtype() == DType::bf16) return to(logsumexp(to(x, DType::f32), axes, keepdim), DType::bf16);
  const Reduction r = reduction_of("logsumexp", x, axes, keepdim);
  Tensor y;
  {
    const NoGrad no_grad;
    Tensor top = zeros(r.kept, x.dtype(), x.device());
    if (r.count > 0) {
      const Tensor largest = amax(x, axes, true);
      top = where(lt(abs(largest), INFINITY), largest, top);  // never infinity - infinity
    }
    y = reshape(add(log(sum(exp(sub(x, top)), axes, true)), top), r.shape);
  }
  return record("logsumexp", y, {x}, [x = save(x), y = save(y), kept = r.kept](GradContext& ctx) {
    return Tensors{mul(exp(sub(*x, reshape(*y, kept))), reshape(ctx.strided_grad(), kept))};
  });
}

Tensor argmax(const Tensor& x, int64_t axis, bool keepdim) {
  check<DTypeError>(x.dtype() != DType::f16, "argmax: f16 is for storage only: ", x);
  const Reduction r = reduction_of("argmax", x, {axis}, keepdim);
  check<ValueError>(r.count > 0 || numel(r.shape) == 0, "argmax: no element to choose from in axis ", axis, " of ", x);
  return reduce(x, r, DType::i64, [](const ConstView& from, const View& out, int64_t) { kernels::argmax(from, out); });
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
