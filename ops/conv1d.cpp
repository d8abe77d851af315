// SPDX-License-Identifier: Apache-2.0
#include "ops/conv1d.hpp"

#include "autograd/record.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/cat.hpp"
#include "ops/matmul.hpp"
#include "ops/shape.hpp"
#include "ops/signal.hpp"

namespace mahia {
namespace {

struct Geometry {
  int64_t left, right, stride, dilation, groups, outputs;
};

// Zeros before and after x for a filter that reaches over span + 1 elements.
std::pair<int64_t, int64_t> zeros_around(const Conv1dOptions& options, int64_t span) {
  if (const auto* both = std::get_if<int64_t>(&options.padding)) return {*both, *both};
  if (std::get<Padding>(options.padding) == Padding::causal) return {span, 0};
  check<ValueError>(options.stride == 1, "conv1d: padding `same` needs stride 1, got ", options.stride);
  return {span / 2, span - span / 2};
}

Geometry check_operands(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv1dOptions& options) {
  const auto& [stride, padding, dilation, groups] = options;
  check<DTypeError>(is_floating_point(x.dtype()) && x.dtype() != DType::f16, "conv1d: needs f64, f32 or bf16, got x ",
                    x);
  check<ShapeError>(x.rank() == 3, "conv1d: x must be (B, C, T), got ", x);
  check<ShapeError>(weight.rank() == 3 && weight.size(2) >= 1, "conv1d: weight must be (O, C/groups, K), got ", weight);
  check<ValueError>(stride >= 1 && dilation >= 1 && groups >= 1, "conv1d: stride ", stride, ", dilation ", dilation,
                    " and groups ", groups, " must be at least 1");
  check<ShapeError>(x.size(1) == weight.size(1) * groups && weight.size(0) % groups == 0,
                    "conv1d: x (B, C, T) and weight (O, C/groups, K) disagree for ", groups, " groups: x ", x,
                    ", weight ", weight);
  check<ShapeError>(!bias || bias.shape() == Shape{weight.size(0)},
                    "conv1d: bias must be (O) with O = ", weight.size(0), ", got ", bias);
  check_filter_dtype("conv1d", x, weight);
  check_filter_dtype("conv1d", x, bias);
  const int64_t span = dilation * (weight.size(2) - 1);
  const auto [left, right] = zeros_around(options, span);
  check<ValueError>(left >= 0, "conv1d: padding ", left, " is negative");
  const int64_t room = left + x.size(2) + right - span - 1;
  check<ShapeError>(room >= 0, "conv1d: the filter reaches over ", span + 1, " elements, x with its padding has ",
                    left + x.size(2) + right, ": x ", x, ", weight ", weight);
  return {left, right, stride, dilation, groups, room / stride + 1};
}

View output(const Tensor& x) { return x ? x.output_view() : View(); }

Tensor in_dtype(const Tensor& x, DType dtype) { return x ? copy_to(x, x.device(), dtype) : x; }

Tensor depthwise(const Tensor& input, const Tensor& weight, const Tensor& bias, const Geometry& g) {
  const Tensor x = time_contiguous(input), start = widened_filter(bias, x.dtype());
  const Tensor taps = reshape(widened_filter(weight.detach(), x.dtype()), {weight.size(0), weight.size(2)});
  Tensor y = empty_signal(x, g.outputs);
  if (y.numel() > 0) kernels::depthwise_conv1d(x, taps, start, output(y), g.left, g.dilation);
  return record(
      "conv1d", y, {x, weight, bias},
      [x = save(x), taps = save(taps), shape = weight.shape(), weight_dtype = weight.dtype(),
       bias_dtype = bias ? bias.dtype() : weight.dtype(), left = g.left, dilation = g.dilation](GradContext& ctx) {
        const Tensor w = *taps, dy = time_contiguous(ctx.strided_grad());
        const Tensor dx = ctx.needs(0) ? empty_signal(*x, (*x).size(2)) : Tensor();
        const Tensor dw = ctx.needs(1) ? empty_like(w) : Tensor();
        const Tensor db = ctx.needs(2) ? empty({w.size(0)}, w.dtype(), w.device()) : Tensor();
        kernels::depthwise_conv1d_grad(*x, w, dy, output(dx), output(dw), output(db), left, dilation);
        return Tensors{dx, dw ? reshape(in_dtype(dw, weight_dtype), shape) : dw, in_dtype(db, bias_dtype)};
      });
}

// The elements that tap k meets: (B, C, T'), a view of the padded x.
Tensor under_tap(const Tensor& padded, int64_t k, const Geometry& g) {
  const Tensor run = narrow(padded, 2, k * g.dilation, g.outputs * g.stride);
  if (g.stride == 1) return run;
  return select(reshape(run, {run.size(0), run.size(1), g.outputs, g.stride}), 3, 0);
}

// A product of matrices: the filters (O/groups, K C/groups) of each group by its channels under each tap.
Tensor product(const Tensor& x, const Tensor& weight, const Tensor& bias, const Geometry& g) {
  const int64_t batch = x.size(0), depth = weight.size(1), taps = weight.size(2), filters = weight.size(0);
  const int64_t reach = (taps - 1) * g.dilation + g.outputs * g.stride;
  const Tensor padded = pad(x, {g.left, reach - g.left - x.size(2)});
  Tensors columns;
  for (int64_t k = 0; k < taps; ++k) {
    columns.push_back(reshape(under_tap(padded, k, g), {batch, g.groups, depth, g.outputs}));
  }
  const Tensor by_tap = permute(reshape(weight, {g.groups, filters / g.groups, depth, taps}), {0, 1, 3, 2});
  const Tensor rows = reshape(by_tap, {g.groups, filters / g.groups, taps * depth});
  const Tensor y = reshape(matmul(rows, cat(columns, 2)), {batch, filters, g.outputs});
  return bias ? y + reshape(bias, {filters, 1}) : y;
}

}  // namespace

Tensor conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv1dOptions& options) {
  const Geometry g = check_operands(x, weight, bias, options);
  const bool one_filter_per_channel = weight.size(1) == 1 && weight.size(0) == x.size(1);
  if (one_filter_per_channel && g.stride == 1) return depthwise(x, weight, bias, g);
  const DType wide = x.dtype() == DType::bf16 ? DType::f32 : x.dtype();
  return to(product(to(x, wide), to(weight, wide), bias ? to(bias, wide) : bias, g), x.dtype());
}

}  // namespace mahia
