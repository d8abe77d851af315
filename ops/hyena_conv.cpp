// SPDX-License-Identifier: Apache-2.0
#include "ops/hyena_conv.hpp"

#include <array>

#include "autograd/record.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/shape.hpp"
#include "ops/signal.hpp"

namespace mahia {
namespace {

// One of v, gate_before and gate_after.
void check_signal(const char* name, const ShortFiltered& signal, const Tensor& v) {
  const auto& [x, weight, bias] = signal;
  check<ShapeError>(x || (!weight && !bias), "hyena_conv: ", name, " has a short filter and no x: weight ", weight,
                    ", bias ", bias);
  if (!x) return;
  check<ShapeError>(x.shape() == v.shape(), "hyena_conv: ", name, " must have v's shape: v ", v, ", ", name, " ", x);
  check<DTypeError>(x.dtype() == v.dtype(), "hyena_conv: ", name, " must have v's dtype: v ", v, ", ", name, " ", x);
  check<ShapeError>(!weight || (weight.rank() == 2 && weight.size(0) == x.size(1) && weight.size(1) >= 1),
                    "hyena_conv: the weight of ", name, " must be (D, K) with D = ", x.size(1), ", K >= 1: x ", x,
                    ", weight ", weight);
  check<ShapeError>(!bias || (weight && bias.shape() == Shape{x.size(1)}), "hyena_conv: the bias of ", name,
                    " must be (D) with D = ", x.size(1), " beside a weight: weight ", weight, ", bias ", bias);
  check_filter_dtype("hyena_conv", x, weight);
  check_filter_dtype("hyena_conv", x, bias);
}

void check_operands(const ShortFiltered& v, const Tensor& h, const HyenaConvOptions& options) {
  const auto& [skip, before, after, algorithm] = options;
  const Tensor& x = v.x;
  check<ShapeError>(x && x.rank() == 3, "hyena_conv: v must be (B, D, T), got ", x);
  const bool is_float = is_floating_point(x.dtype()) && x.dtype() != DType::f16;
  check<DTypeError>(is_float, "hyena_conv: needs f64, f32 or bf16, got v ", x);
  check_signal("v", v, x);
  check_signal("gate_before", before, x);
  check_signal("gate_after", after, x);
  check<ShapeError>(h.rank() == 2 && h.size(0) == x.size(1) && h.size(1) >= 1,
                    "hyena_conv: h must be (D, K) with D = ", x.size(1), ", K >= 1: v ", x, ", h ", h);
  check<ShapeError>(!skip || skip.shape() == Shape{x.size(1)}, "hyena_conv: skip must be (D) with D = ", x.size(1),
                    ": v ", x, ", skip ", skip);
  check_filter_dtype("hyena_conv", x, h);
  check_filter_dtype("hyena_conv", x, skip);
}

// As kernels want it: x with its history, the filter without.
ShortFiltered prepared(const ShortFiltered& from, DType dtype) {
  return {time_contiguous(from.x), widened_filter(from.weight, dtype), widened_filter(from.bias, dtype)};
}

bool requires_grad(const ShortFiltered& signal) {
  const auto of = [](const Tensor& x) { return x && x.requires_grad(); };
  return of(signal.x) || of(signal.weight) || of(signal.bias);
}

std::array<ConstView, 3> views(const ShortFiltered& signal) { return {signal.x, signal.weight, signal.bias}; }

View output(const Tensor& x) { return x ? x.output_view() : View(); }
std::array<View, 3> outputs(const ShortFiltered& gradient) {
  return {output(gradient.x), output(gradient.weight), output(gradient.bias)};
}

struct SavedSignal {
  Saved x, weight, bias;
  DType weight_dtype, bias_dtype;

  SavedSignal(const ShortFiltered& kept, const ShortFiltered& given)
      : x(save(kept.x)),
        weight(save(kept.weight)),
        bias(save(kept.bias)),
        weight_dtype(given.weight ? given.weight.dtype() : DType::f32),
        bias_dtype(given.bias ? given.bias.dtype() : DType::f32) {}
  ShortFiltered operator*() const { return {*x, *weight, *bias}; }
};

Tensor in_dtype(const Tensor& x, DType dtype) { return x ? copy_to(x, x.device(), dtype) : x; }

// Room for the gradients that are wanted of a signal whose x is input number `first`.
ShortFiltered wanted(const GradContext& ctx, int first, const ShortFiltered& of) {
  return {ctx.needs(first) ? empty_signal(of.x, of.x.size(2)) : Tensor(),
          ctx.needs(first + 1) ? empty_like(of.weight) : Tensor(),
          ctx.needs(first + 2) ? empty_like(of.bias) : Tensor()};
}

// Room for dh, or for its first tap alone when only skip, which acts as that tap, wants a gradient.
Tensor filter_gradient(const GradContext& ctx, const Tensor& h, int input) {
  if (ctx.needs(input)) return empty_like(h);
  return ctx.needs(input + 1) ? empty({h.size(0), 1}, h.dtype(), h.device()) : Tensor();
}

void set_to_zero(const Tensors& xs) {
  for (const Tensor& x : xs) {
    if (x) fill(x, 0);
  }
}

double numbers_of(const ConstView& x) { return static_cast<double>(x.numel()); }

}  // namespace

namespace kernels {

Cost cost_of_hyena_conv(const std::span<const ConstView>& v, const std::span<const ConstView>& gate_before,
                        const std::span<const ConstView>& gate_after, const ConstView& h, const ConstView& skip,
                        const View& y, const View& ungated, const ConvAlgorithm& algorithm) {
  Cost cost = cost_of_long_conv(v[0], h, skip, gate_before[0], gate_after[0], y, ungated, algorithm);
  for (const auto& signal : {v, gate_before, gate_after}) {
    if (!signal[1].defined()) continue;
    cost.bytes += bytes_of({&signal[1], &signal[2]});
    cost.flops += 2 * numbers_of(y) * static_cast<double>(signal[1].size(1));
  }
  return cost;
}

Cost cost_of_hyena_conv_grad(const std::span<const ConstView>& v, const std::span<const ConstView>& gate_before,
                             const std::span<const ConstView>& gate_after, const ConstView& h, const ConstView& skip,
                             const ConstView& ungated, const ConstView& dy, const std::span<const View>& dv,
                             const std::span<const View>& dgate_before, const std::span<const View>& dgate_after,
                             const View& dh, const ConvAlgorithm& algorithm) {
  Cost cost = cost_of_long_conv_grad(v[0], h, skip, gate_before[0], gate_after[0], ungated, dy, dv[0], dh,
                                     dgate_before[0], dgate_after[0], algorithm);
  for (const auto& signal : {v, gate_before, gate_after}) {  // computed anew, and both gradients
    if (!signal[1].defined()) continue;
    cost.bytes += bytes_of({&signal[1], &signal[2]});
    cost.flops += 6 * numbers_of(dy) * static_cast<double>(signal[1].size(1));
  }
  for (const auto& gradient : {dv, dgate_before, dgate_after}) cost.bytes += bytes_of({&gradient[1], &gradient[2]});
  return cost;
}

}  // namespace kernels

Tensor hyena_conv(const ShortFiltered& signal, const Tensor& filter, const HyenaConvOptions& options) {
  check_operands(signal, filter, options);
  const auto& [raw_skip, raw_before, raw_after, wanted_algorithm] = options;
  const DType dtype = signal.x.dtype();
  const ShortFiltered v = prepared(signal, dtype), before = prepared(raw_before, dtype),
                      after = prepared(raw_after, dtype);
  const Tensor h = widened_filter(filter, dtype), skip = widened_filter(raw_skip, dtype);
  const ConvAlgorithm algorithm = resolve(wanted_algorithm, v.x.device(), v.x.size(2), h.size(1));
  const bool keeps_ungated = grad_enabled() && requires_grad(raw_after);
  const Tensor ungated = keeps_ungated ? empty_signal(v.x, v.x.size(2)) : Tensor();
  Tensor y = empty_signal(v.x, v.x.size(2));
  if (y.numel() > 0) {
    kernels::hyena_conv(views(v), views(before), views(after), h, skip, output(y), output(ungated), algorithm);
  }
  return record(
      "hyena_conv", y,
      {v.x, signal.weight, signal.bias, before.x, raw_before.weight, raw_before.bias, after.x, raw_after.weight,
       raw_after.bias, filter, raw_skip},
      [v = SavedSignal(v, signal), before = SavedSignal(before, raw_before), after = SavedSignal(after, raw_after),
       h = save(h), skip = save(skip), ungated = save(ungated), h_dtype = filter.dtype(),
       skip_dtype = raw_skip ? raw_skip.dtype() : filter.dtype(), algorithm](GradContext& ctx) {
        const ShortFiltered from[] = {*v, *before, *after};
        const ShortFiltered to[] = {wanted(ctx, 0, from[0]), wanted(ctx, 3, from[1]), wanted(ctx, 6, from[2])};
        const Tensor dh = filter_gradient(ctx, *h, 9), dy = time_contiguous(ctx.strided_grad());
        if (dy.numel() > 0) {
          kernels::hyena_conv_grad(views(from[0]), views(from[1]), views(from[2]), *h, *skip, *ungated, dy,
                                   outputs(to[0]), outputs(to[1]), outputs(to[2]), output(dh), algorithm);
        } else {
          set_to_zero({dh, to[0].weight, to[0].bias, to[1].weight, to[1].bias, to[2].weight, to[2].bias});
        }
        Tensors gradients;
        const auto append = [&gradients](const SavedSignal& of, const ShortFiltered& gradient) {
          gradients.push_back(gradient.x);
          gradients.push_back(in_dtype(gradient.weight, of.weight_dtype));
          gradients.push_back(in_dtype(gradient.bias, of.bias_dtype));
        };
        append(v, to[0]);
        append(before, to[1]);
        append(after, to[2]);
        gradients.push_back(ctx.needs(9) ? in_dtype(dh, h_dtype) : Tensor());
        gradients.push_back(ctx.needs(10) ? in_dtype(select(dh, 1, 0), skip_dtype) : Tensor());
        return gradients;
      });
}

}  // namespace mahia
