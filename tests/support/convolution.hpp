// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ops/long_conv.hpp"
#include "tests/support/op_spec.hpp"

// What the tests of long_conv and of its state share.
namespace mahia::tests {

inline constexpr ConvAlgorithm conv_algorithms[] = {ConvAlgorithm::fft, ConvAlgorithm::dyadic, ConvAlgorithm::direct};

enum Parts { none = 0, with_skip = 1, with_before = 2, with_after = 4, all = 7 };

// Splits {u, h, [skip], [gate before], [gate after]}.
template <class T>
struct ConvOperands {
  T u, h, skip, before, after;
  ConvOperands(const std::vector<T>& x, int parts) : u(x[0]), h(x[1]) {
    size_t next = 2;
    if (parts & with_skip) skip = x[next++];
    if (parts & with_before) before = x[next++];
    if (parts & with_after) after = x[next++];
  }
};
std::vector<Input> conv_inputs(const Shape& shape, int64_t taps, int parts);
Tensor convolve(const Tensors& x, int parts, ConvAlgorithm algorithm = ConvAlgorithm::automatic);

// All five operands for signals of one shape, filters as long as they are.
Tensors random_operands(const Shape& shape, DType dtype = DType::f32);

// The sum as written.
Array direct_sum(const Arrays& x, int parts);
// u (1, 1, T) convolved with h (1, K) by transforms in f64.
Array sum_by_transforms(const Array& u, const Array& h);

double rms(const std::vector<double>& values);
double relative_rms_error(const Tensor& actual, const Array& expected);

// One plain row of length n against the first `taps` numbers of another, and an output gradient.
struct ConvRow {
  ConvRow(int64_t n, int64_t taps, DType dtype, Array (*reference)(const Array& u, const Array& h));
  // The largest relative error of the value and of both gradients.
  double worst_error(ConvAlgorithm algorithm) const;

  Tensor u, h, dy;
  Array y, du, dh;
};
// The reference for rows that are not too long.
Array direct_row(const Array& u, const Array& h);

}  // namespace mahia::tests
