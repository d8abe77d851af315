// SPDX-License-Identifier: Apache-2.0
#include "ops/linear.hpp"

#include "autograd/record.hpp"
#include "core/factory.hpp"
#include "ops/matmul.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"

namespace mahia {
namespace {

// Where the features of a tensor stand: last, or first.
enum class Features { last, first };

Shape without_features(Shape shape, Features place) {
  shape.erase(place == Features::last ? shape.rank() - 1 : 0);
  return shape;
}

// The tensor as a matrix (rows, features): a view whenever its strides allow one.
Tensor as_matrix(const Tensor& x, Features place) {
  const int64_t features = x.size(place == Features::last ? -1 : 0);
  const int64_t rows = numel(without_features(x.shape(), place));
  return place == Features::last ? reshape(x, {rows, features}) : transpose(reshape(x, {features, rows}), 0, 1);
}

// y = start + a b, y a matrix that an op has just made.
void multiply(const Tensor& a, const Tensor& b, const Tensor& start, const Tensor& y) {
  if (y.numel() > 0) kernels::matmul(a, b, start, y.output_view());
}

void check_operands(const char* op, const Tensor& x, Features place, const Tensor& weight, const Tensor& bias) {
  check<DTypeError>(
      is_floating_point(x.dtype()) && x.dtype() == weight.dtype() && (!bias.defined() || x.dtype() == bias.dtype()), op,
      ": needs one floating dtype: x ", x, ", weight ", weight, ", bias ", bias);
  check<ShapeError>(weight.rank() == 2, op, ": weight must be (out, in): weight ", weight);
  check<ShapeError>(x.rank() > 0 && x.size(place == Features::last ? -1 : 0) == weight.size(1), op,
                    place == Features::last ? ": x (.., in)" : ": x (in, ..)",
                    " and weight (out, in) disagree on `in`: x ", x, ", weight ", weight);
  check<ShapeError>(!bias.defined() || bias.shape() == Shape{weight.size(0)}, op,
                    ": weight (out, in) and bias (out) disagree on `out`: weight ", weight, ", bias ", bias);
}

Tensor linear_between(const char* op, const Tensor& x, Features from, Features to, const Tensor& weight,
                      const Tensor& bias) {
  check_operands(op, x, from, weight, bias);
  Shape shape = without_features(x.shape(), from);
  shape.insert(to == Features::last ? shape.rank() : 0, weight.size(0));
  const Tensor y = empty(shape, x.dtype(), x.device());
  {
    const NoGrad no_grad;
    const Tensor rows = as_matrix(y, to);
    multiply(as_matrix(x, from), transpose(weight, 0, 1), bias.defined() ? expand(bias, rows.shape()) : bias, rows);
  }
  return record(op, y, {x, weight, bias}, [x = save(x), weight = save(weight), from, to](GradContext& ctx) {
    const Tensor dy = as_matrix(ctx.grad(), to);
    Tensors grads(3);
    if (ctx.needs(0)) {
      grads[0] = empty_like(*x);
      multiply(dy, *weight, {}, as_matrix(grads[0], from));
    }
    if (ctx.needs(1)) {
      grads[1] = empty_like(*weight);
      multiply(transpose(dy, 0, 1), as_matrix(*x, from), {}, grads[1]);
    }
    if (ctx.needs(2)) grads[2] = to == Features::last ? sum(dy, {0}) : sum(transpose(dy, 0, 1), {1});
    return grads;
  });
}

void check_channels(const char* op, const Tensor& x, const char* axes) {
  check<ShapeError>(x.rank() == 3, op, ": x must be ", axes, ": x ", x);
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return linear_between("linear", x, Features::last, Features::last, weight, bias);
}

Tensor linear_to_channels(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check_channels("linear_to_channels", x, "(B, T, in)");
  return linear_between("linear_to_channels", x, Features::last, Features::first, weight, bias);
}

Tensor linear_from_channels(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check_channels("linear_from_channels", x, "(in, B, T)");
  return linear_between("linear_from_channels", x, Features::first, Features::last, weight, bias);
}

}  // namespace mahia
