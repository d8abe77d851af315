// SPDX-License-Identifier: Apache-2.0
#include "ops/norm.hpp"

#include "autograd/record.hpp"
#include "core/factory.hpp"
#include "ops/shape.hpp"

namespace mahia {
namespace {

DType statistics_dtype(const Tensor& x) { return x.dtype() == DType::f64 ? DType::f64 : DType::f32; }

// `size` is what weight and bias must have: one number per channel or per place of the last axis.
void check_operands(const char* op, const Tensor& x, int64_t size, const Tensor& weight, const Tensor& bias) {
  check<DTypeError>(is_floating_point(x.dtype()), op, ": needs a floating tensor, got ", x);
  for (const auto& [name, t] : {std::pair{"weight", &weight}, {"bias", &bias}}) {
    if (!t->defined()) continue;
    check<DTypeError>(t->dtype() == x.dtype() || t->dtype() == statistics_dtype(x), op, ": ", name,
                      " must have the dtype of x", x.dtype() == DType::bf16 ? " or f32" : "", ": x ", x, ", ", name,
                      " ", *t);
    check<ShapeError>(t->shape() == Shape{size}, op, ": ", name, " must be [", size, "]: x ", x, ", ", name, " ", *t);
  }
  check<DTypeError>(!weight.defined() || !bias.defined() || weight.dtype() == bias.dtype(), op,
                    ": weight and bias differ: weight ", weight, ", bias ", bias);
}

View output(const Tensor& t) { return t.defined() ? t.output_view() : View(); }
Tensor contiguous_if(const Tensor& t) { return t.defined() ? contiguous(t) : t; }

// Outputs for the gradients that are asked for; `size` numbers of weight and bias.
Tensors make_gradients(const GradContext& ctx, const Tensor& x, int64_t size, const Tensor& weight, DType bias) {
  Tensors grads(3);
  if (ctx.needs(0)) grads[0] = empty_like(x);
  if (ctx.needs(1)) grads[1] = zeros({size}, weight.dtype(), x.device());
  if (ctx.needs(2)) grads[2] = zeros({size}, bias, x.device());
  return grads;
}

// layer_norm, or rms_norm when not centred.
Tensor normalize_rows(const char* op, const Tensor& input, const Tensor& weight, const Tensor& bias, double eps,
                      bool centred) {
  check<ShapeError>(input.rank() > 0, op, ": needs at least one axis: x ", input);
  check_operands(op, input, input.size(-1), weight, bias);
  Tensor x, scale, shift;
  {
    const NoGrad no_grad;
    x = contiguous(input);
    scale = contiguous_if(weight);
    shift = contiguous_if(bias);
  }
  Shape rows = x.shape();
  rows.erase(rows.rank() - 1);
  const Tensor y = empty_like(x), rstd = empty(rows, statistics_dtype(x), x.device());
  const Tensor mean = centred ? empty_like(rstd) : Tensor();
  if (x.numel() > 0) kernels::layer_norm(x, scale, shift, eps, y.output_view(), output(mean), rstd.output_view());
  return record(op, y, {input, weight, bias},
                [x = save(x), weight = save(scale), mean = save(mean), rstd = save(rstd),
                 dtype = bias.defined() ? bias.dtype() : x.dtype()](GradContext& ctx) {
                  const Tensor value = *x, w = weight.defined() ? *weight : Tensor();
                  Tensors grads = make_gradients(ctx, value, value.size(-1), w, dtype);
                  if (value.numel() > 0) {
                    kernels::layer_norm_grad(value, ctx.grad(), w, mean.defined() ? *mean : Tensor(), *rstd,
                                             output(grads[0]), output(grads[1]), output(grads[2]));
                  }
                  return grads;
                });
}

Tensor moved(const Tensor& running, const Tensor& batch, double momentum, double scale) {
  const Tensor y = empty_like(running);
  kernels::move_average(contiguous(running), batch, momentum, scale, y.output_view());
  return y;
}

// x (N, C) or (N, C, T) as (N, C, T).
Tensor with_time(const Tensor& x) { return contiguous(x.rank() == 2 ? unsqueeze(x, 2) : x); }

void check_batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& running_mean,
                      const Tensor& running_var, bool training) {
  check<ShapeError>(x.rank() == 2 || x.rank() == 3, "batch_norm: x must be (N, C) or (N, C, T): x ", x);
  check_operands("batch_norm", x, x.size(1), weight, bias);
  check<ValueError>(running_mean.defined() == running_var.defined() && (training || running_mean.defined()),
                    "batch_norm: needs both running statistics", training ? " or none" : " unless training",
                    ": running_mean ", running_mean, ", running_var ", running_var);
  check<ValueError>(!training || x.numel() != x.size(1) || x.numel() == 0,
                    "batch_norm: needs more than one value per channel when training: x ", x);
  for (const Tensor* t : {&running_mean, &running_var}) {
    check<ShapeError>(!t->defined() || (t->shape() == Shape{x.size(1)} && t->dtype() == statistics_dtype(x)),
                      "batch_norm: running statistics must be ", statistics_dtype(x), " [", x.size(1), "]: x ", x,
                      ", got ", *t);
  }
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  return normalize_rows("layer_norm", x, weight, bias, eps, true);
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, std::optional<double> eps) {
  const double smallest = x.dtype() == DType::f64 ? 0x1p-52 : 0x1p-23;
  return normalize_rows("rms_norm", x, weight, {}, eps.value_or(smallest), false);
}

BatchNorm batch_norm(const Tensor& input, const Tensor& weight, const Tensor& bias, const Tensor& running_mean,
                     const Tensor& running_var, bool training, double momentum, double eps) {
  check_batch_norm(input, weight, bias, running_mean, running_var, training);
  BatchNorm result{empty_like(input), running_mean, running_var};
  Tensor x, scale, mean, var;
  {
    const NoGrad no_grad;
    x = with_time(input);
    scale = contiguous_if(weight);
    mean = training ? empty({x.size(1)}, statistics_dtype(x), x.device()) : contiguous(running_mean);
    var = training ? empty_like(mean) : contiguous(running_var);
    if (x.numel() > 0) {
      if (training) kernels::batch_norm_stats(x, mean.output_view(), var.output_view());
      const Tensor y = reshape(result.y, x.shape());
      kernels::batch_norm(x, scale, contiguous_if(bias), mean, var, eps, y.output_view());
    }
    if (x.numel() > 0 && training && running_mean.defined()) {
      const double n = static_cast<double>(x.size(0) * x.size(2));
      result.running_mean = moved(running_mean, mean, momentum, 1);
      result.running_var = moved(running_var, var, momentum, n / (n - 1));
    }
  }
  result.y = record("batch_norm", result.y, {input, weight, bias},
                    [x = save(x), weight = save(scale), mean = save(mean), var = save(var), shape = input.shape(), eps,
                     training, dtype = bias.defined() ? bias.dtype() : x.dtype()](GradContext& ctx) {
                      const Tensor value = *x, w = weight.defined() ? *weight : Tensor();
                      Tensors grads = make_gradients(ctx, value, value.size(1), w, dtype);
                      if (value.numel() > 0) {
                        kernels::batch_norm_grad(value, reshape(ctx.grad(), value.shape()), w, *mean, *var, eps,
                                                 training, output(grads[0]), output(grads[1]), output(grads[2]));
                      }
                      if (ctx.needs(0)) grads[0] = reshape(grads[0], shape);
                      return grads;
                    });
  return result;
}

}  // namespace mahia
