// SPDX-License-Identifier: Apache-2.0
#include "core/factory.hpp"

#include "core/copy.hpp"
#include "core/runtime.hpp"

namespace mahia {

Tensor empty(const Shape& shape, DType dtype, Device device) {
  const int64_t n = numel(shape);
  int64_t bytes = 0;
  check<ShapeError>(!__builtin_mul_overflow(n, static_cast<int64_t>(size_of(dtype)), &bytes), "empty: ", shape, " of ",
                    dtype, " is larger than 2^63 bytes");
  return {std::make_shared<Storage>(device, static_cast<size_t>(bytes)), shape, contiguous_strides(shape), 0, dtype};
}

Tensor empty_like(const Tensor& x) { return empty(x.shape(), x.dtype(), x.device()); }
Tensor empty_like(const Tensor& x, DType dtype) { return empty(x.shape(), dtype, x.device()); }

Tensor full(const Shape& shape, double value, DType dtype, Device device) {
  Tensor x = empty(shape, dtype, device);
  kernels::fill(x.output_view(), value);
  return x;
}

Tensor zeros(const Shape& shape, DType dtype, Device device) { return full(shape, 0, dtype, device); }
Tensor zeros_like(const Tensor& x) { return full(x.shape(), 0, x.dtype(), x.device()); }
Tensor ones(const Shape& shape, DType dtype, Device device) { return full(shape, 1, dtype, device); }
Tensor scalar(double value, DType dtype, Device device) { return full({}, value, dtype, device); }

Tensor arange(int64_t n, DType dtype, Device device) {
  check<ValueError>(n >= 0, "arange: n is ", n, ", must not be negative");
  std::vector<int64_t> values(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) values[static_cast<size_t>(i)] = i;
  return copy_to(Tensor::from(values, {n}), device, dtype);
}

Tensor linspace(double first, double last, int64_t steps, DType dtype, Device device) {
  check<ValueError>(steps >= 0, "linspace: steps is ", steps, ", must not be negative");
  std::vector<double> values(static_cast<size_t>(steps));
  for (int64_t i = 0; i < steps; ++i) {
    // From both ends, so that the last value is exact.
    const double width = steps > 1 ? (last - first) / static_cast<double>(steps - 1) : 0;
    values[static_cast<size_t>(i)] =
        2 * i < steps ? first + width * static_cast<double>(i) : last - width * static_cast<double>(steps - 1 - i);
  }
  return copy_to(Tensor::from(values, {steps}), device, dtype);
}

namespace {

Tensor random(const char* op, const Shape& shape, const RandomCall& call, DType dtype, Device device, bool normal) {
  check<DTypeError>(is_floating_point(dtype) && dtype != DType::f16, op, ": needs f64, f32 or bf16, got ", dtype);
  Tensor x = empty(shape, dtype, device);
  kernels::random_fill(x.output_view(), call, normal);
  return x;
}

}  // namespace

Tensor rand(const Shape& shape, const RandomCall& call, DType dtype, Device device) {
  return random("rand", shape, call, dtype, device, false);
}
Tensor randn(const Shape& shape, const RandomCall& call, DType dtype, Device device) {
  return random("randn", shape, call, dtype, device, true);
}
Tensor rand(const Shape& shape, DType dtype, Device device) { return rand(shape, next_random_call(), dtype, device); }
Tensor randn(const Shape& shape, DType dtype, Device device) { return randn(shape, next_random_call(), dtype, device); }

Tensor randint(int64_t low, int64_t high, const Shape& shape, DType dtype, Device device) {
  check<ValueError>(low < high, "randint: empty range [", low, ", ", high, ")");
  const RandomCall call = next_random_call();
  std::vector<int64_t> values(static_cast<size_t>(numel(shape)));
  const auto range = static_cast<uint64_t>(high - low);
  for (size_t i = 0; i < values.size(); ++i) {
    const auto words = random_words(call, i);
    const uint64_t word = (static_cast<uint64_t>(words[1]) << 32) | words[0];
    values[i] = low + static_cast<int64_t>((static_cast<unsigned __int128>(word) * range) >> 64);
  }
  return copy_to(Tensor::from(values, shape), device, dtype);
}

}  // namespace mahia
