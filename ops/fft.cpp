// SPDX-License-Identifier: Apache-2.0
#include "ops/fft.hpp"

#include "autograd/record.hpp"
#include "core/factory.hpp"
#include "ops/shape.hpp"

namespace mahia {
namespace {

void check_operand(const char* op, const Tensor& x, int64_t n) {
  check<DTypeError>(is_floating_point(x.dtype()) && x.dtype() != DType::f16, op, ": needs f64, f32 or bf16, got ", x);
  check<ValueError>(n >= 1, op, ": length ", n, ", must be at least 1: ", x);
}

int64_t product(const Shape& shape, int axes) {
  int64_t total = 1;
  for (int axis = 0; axis < axes; ++axis) total *= shape[axis];
  return total;
}

// (..., T) as (rows, T).
Tensor signals(const Tensor& x) { return reshape(x, {product(x.shape(), x.rank() - 1), x.size(-1)}); }
// (..., M, 2) as (rows, M, 2).
Tensor spectra(const Tensor& x) { return reshape(x, {product(x.shape(), x.rank() - 2), x.size(-2), 2}); }

}  // namespace

Tensor rfft(const Tensor& x, int64_t n) {
  check<ShapeError>(x.rank() >= 1, "rfft: x must be (..., T), got ", x);
  const int64_t length = n == -1 ? x.size(-1) : n;
  check_operand("rfft", x, length);
  const Tensor from = contiguous(x);
  Shape shape = x.shape();
  shape[x.rank() - 1] = length / 2 + 1;
  shape.push_back(2);
  Tensor y = empty(shape, x.dtype(), x.device());
  if (y.numel() > 0) kernels::rfft(signals(from.detach()), spectra(y).output_view(), length, FftWeights{});
  return record("rfft", y, {from}, [shape = x.shape(), length](GradContext& ctx) {
    const Tensor dy = ctx.grad(), dx = empty(shape, dy.dtype(), dy.device());
    if (dx.numel() > 0) kernels::irfft(spectra(dy), signals(dx).output_view(), length, FftWeights{});
    return Tensors{dx};
  });
}

Tensor irfft(const Tensor& x, int64_t n) {
  check<ShapeError>(x.rank() >= 2 && x.size(-1) == 2, "irfft: x must be (..., M, 2), got ", x);
  const int64_t length = n == -1 ? 2 * (x.size(-2) - 1) : n;
  check_operand("irfft", x, length);
  const Tensor from = contiguous(x);
  const double scale = 1 / static_cast<double>(length);
  const FftWeights weights{scale, 2 * scale};
  Shape shape = x.shape();
  shape.erase(x.rank() - 1);
  shape[shape.rank() - 1] = length;
  Tensor y = empty(shape, x.dtype(), x.device());
  if (y.numel() > 0) kernels::irfft(spectra(from.detach()), signals(y).output_view(), length, weights);
  return record("irfft", y, {from}, [shape = x.shape(), length, weights](GradContext& ctx) {
    const Tensor dy = ctx.grad(), dx = empty(shape, dy.dtype(), dy.device());
    if (dx.numel() > 0) kernels::rfft(signals(dy), spectra(dx).output_view(), length, weights);
    return Tensors{dx};
  });
}

}  // namespace mahia
