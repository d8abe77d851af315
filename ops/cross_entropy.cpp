// SPDX-License-Identifier: Apache-2.0
#include "ops/cross_entropy.hpp"

#include <algorithm>

#include "autograd/record.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/runtime.hpp"
#include "ops/binary.hpp"
#include "ops/matmul.hpp"
#include "ops/shape.hpp"

namespace mahia {
namespace {

DType loss_dtype(const Tensor& x) { return x.dtype() == DType::bf16 ? DType::f32 : x.dtype(); }

void check_targets(const char* op, const Tensor& x, const Tensor& targets, const CrossEntropyOptions& options) {
  check<DTypeError>(is_floating_point(x.dtype()), op, ": needs a floating tensor, got ", x);
  check<DTypeError>(targets.dtype() == DType::i64, op, ": targets must be i64: targets ", targets);
  check<ShapeError>(x.rank() == 2 && targets.shape() == Shape{x.size(0)}, op,
                    ": needs rows (N, ..) and targets (N): rows ", x, ", targets ", targets);
  check<ValueError>(options.label_smoothing >= 0 && options.label_smoothing <= 1, op, ": label_smoothing is ",
                    options.label_smoothing, ", must be in [0, 1]");
}

// What a row's loss counts, with the targets checked.
Tensor factor_of(const Tensor& targets, const CrossEntropyOptions& options, int64_t classes, DType dtype) {
  const Tensor factor = empty({}, dtype, targets.device());
  kernels::cross_entropy_factor(targets, options, classes, factor.output_view());
  return factor;
}

// The gradients of linear_cross_entropy for dy = 1, where they are asked for.
struct LinearGradients {
  Tensor dx, dweight;
};

// Losses, and gradients, of the rows of x, which all have been given by the caller: a chunk of the batch.
void run_chunk(const Tensor& x, const Tensor& weight, const Tensor& targets, const CrossEntropyOptions& options,
               const Tensor& factor, const Tensor& losses, const LinearGradients& grads) {
  const Tensor logits = empty({x.size(0), weight.size(0)}, x.dtype(), x.device());
  const Tensor stats = empty({x.size(0), 2}, losses.dtype(), x.device());
  kernels::matmul(x, transpose(weight, 0, 1), {}, logits.output_view());
  kernels::cross_entropy(logits, targets, options, losses.output_view(), stats.output_view());
  if (!grads.dx.defined() && !grads.dweight.defined()) return;
  const Tensor dlogits = empty_like(logits);
  kernels::cross_entropy_grad(logits, targets, stats, factor, {}, options, dlogits.output_view());
  if (grads.dx.defined()) kernels::matmul(dlogits, weight, {}, grads.dx.output_view());
  if (grads.dweight.defined()) {
    kernels::matmul(transpose(dlogits, 0, 1), x, grads.dweight, grads.dweight.output_view());
  }
}

}  // namespace

Tensor cross_entropy(const Tensor& input, const Tensor& target, const CrossEntropyOptions& options) {
  check_targets("cross_entropy", input, target, options);
  Tensor logits, targets;
  {
    const NoGrad no_grad;
    logits = contiguous(input);
    targets = contiguous(target);
  }
  const DType dtype = loss_dtype(logits);
  const Tensor factor = factor_of(targets, options, logits.size(1), dtype);
  const Tensor losses = empty({logits.size(0)}, dtype, logits.device());
  const Tensor stats = empty({logits.size(0), 2}, dtype, logits.device());
  if (logits.numel() > 0) {
    kernels::cross_entropy(logits, targets, options, losses.output_view(), stats.output_view());
  }
  Tensor y = losses;
  if (options.reduction != Reduction::none) {
    y = empty({}, dtype, logits.device());
    kernels::cross_entropy_total(losses, factor, y.output_view());
  }
  return record("cross_entropy", y, {input},
                [logits = save(logits), targets = save(targets), stats = save(stats), factor = save(factor),
                 options](GradContext& ctx) {
                  const Tensor dlogits = empty_like(*logits);
                  if (dlogits.numel() > 0) {
                    kernels::cross_entropy_grad(*logits, *targets, *stats, *factor, ctx.grad(), options,
                                                dlogits.output_view());
                  }
                  return Tensors{dlogits};
                });
}

Tensor linear_cross_entropy(const Tensor& input, const Tensor& weight, const Tensor& target,
                            const CrossEntropyOptions& options) {
  check_targets("linear_cross_entropy", input, target, options);
  check<DTypeError>(input.dtype() == weight.dtype(), "linear_cross_entropy: needs one floating dtype: x ", input,
                    ", weight ", weight);
  check<ShapeError>(weight.rank() == 2 && weight.size(1) == input.size(1),
                    "linear_cross_entropy: x (N, D) and weight (V, D) disagree on `D`: x ", input, ", weight ", weight);
  check<ValueError>(options.reduction != Reduction::none,
                    "linear_cross_entropy: reduces to a mean or a sum; for a loss per row use cross_entropy");
  const bool recording = autograd::wants_record({input, weight});
  const Tensor y = empty({}, loss_dtype(input), input.device());
  LinearGradients grads;
  {
    const NoGrad no_grad;
    const int64_t rows = input.size(0), classes = weight.size(0);
    const Tensor x = contiguous(input), w = contiguous(weight);
    const Tensor targets = contiguous(target), losses = empty({rows}, y.dtype(), y.device());
    const Tensor factor = factor_of(targets, options, classes, y.dtype());
    if (recording && input.requires_grad()) grads.dx = empty_like(x);
    if (recording && weight.requires_grad()) grads.dweight = zeros(w.shape(), y.dtype(), w.device());
    const auto row_bytes = static_cast<size_t>(std::max<int64_t>(classes, 1)) * sizeof(float);
    const auto fitting = runtime(x.device().type).piece_bytes(x.device()) / row_bytes;
    const int64_t chunk = std::max<int64_t>(static_cast<int64_t>(fitting), 256);
    for (int64_t at = 0; at < rows; at += chunk) {
      const int64_t n = std::min(chunk, rows - at);
      run_chunk(narrow(x, 0, at, n), w, narrow(targets, 0, at, n), options, factor, narrow(losses, 0, at, n),
                {grads.dx.defined() ? narrow(grads.dx, 0, at, n) : Tensor(), grads.dweight});
    }
    kernels::cross_entropy_total(losses, factor, y.output_view());
  }
  return record("linear_cross_entropy", y, {input, weight},
                [dx = save(grads.dx), dweight = save(grads.dweight), dtype = input.dtype()](GradContext& ctx) {
                  Tensors result(2);
                  if (ctx.needs(0)) result[0] = copy_to(mul(*dx, ctx.grad()), ctx.grad().device(), dtype);
                  if (ctx.needs(1)) result[1] = copy_to(mul(*dweight, ctx.grad()), ctx.grad().device(), dtype);
                  return result;
                });
}

}  // namespace mahia
