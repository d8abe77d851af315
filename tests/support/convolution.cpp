// SPDX-License-Identifier: Apache-2.0
#include "tests/support/convolution.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>

#include "autograd/backward.hpp"
#include "core/copy.hpp"

namespace mahia::tests {
namespace {

using Complexes = std::vector<std::complex<double>>;

// Radix two, out[k] = sum_t x[t] exp(-2 pi i k t / n), or with the other sign.
void transform(Complexes& x, bool inverse) {
  const size_t n = x.size();
  for (size_t i = 1, j = 0; i < n; ++i) {
    size_t bit = n / 2;
    for (; j & bit; bit /= 2) j ^= bit;
    j ^= bit;
    if (i < j) std::swap(x[i], x[j]);
  }
  Complexes roots(n / 2 + 1);
  for (size_t k = 0; k < roots.size(); ++k) {
    const double angle = 2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(n);
    roots[k] = std::polar(1.0, inverse ? angle : -angle);
  }
  for (size_t half = 1; half < n; half *= 2) {
    for (size_t first = 0; first < n; first += 2 * half) {
      for (size_t k = 0; k < half; ++k) {
        const std::complex<double> odd = roots[k * (n / (2 * half))] * x[first + half + k], even = x[first + k];
        x[first + k] = even + odd;
        x[first + half + k] = even - odd;
      }
    }
  }
}

Array reversed(const Array& x) {
  Array y = x;
  std::reverse(y.values.begin(), y.values.end());
  return y;
}

Array in_shape(Array x, const Shape& shape) {
  x.values.resize(static_cast<size_t>(numel(shape)));
  x.shape = shape;
  return x;
}

}  // namespace

std::vector<Input> conv_inputs(const Shape& shape, int64_t taps, int parts) {
  std::vector<Input> inputs = {{shape}, {{shape[1], taps}, -0.3, 0.3}};
  if (parts & with_skip) inputs.push_back({{shape[1]}});
  if (parts & with_before) inputs.push_back({shape});
  if (parts & with_after) inputs.push_back({shape});
  return inputs;
}

Tensor convolve(const Tensors& x, int parts, ConvAlgorithm algorithm) {
  const ConvOperands<Tensor> o(x, parts);
  return long_conv(o.u, o.h, {.skip = o.skip, .gate_before = o.before, .gate_after = o.after, .algorithm = algorithm});
}

Tensors random_operands(const Shape& shape, DType dtype) {
  Tensors x;
  const Shape shapes[] = {shape, {shape[1], shape[2]}, {shape[1]}, shape, shape};
  for (const Shape& s : shapes) x.push_back(make_input({s}, dtype, x.size(), false));
  return x;
}

Array direct_sum(const Arrays& x, int parts) {
  const ConvOperands<Array> o(x, parts);
  const int64_t width = o.u.shape[1], time = o.u.shape[2], taps = o.h.shape[1];
  Array y(o.u.shape), v = o.u;
  if (parts & with_before) {
    for (int64_t i = 0; i < v.size(); ++i) v[i] *= o.before[i];
  }
  for (int64_t row = 0; time > 0 && row < y.size() / time; ++row) {
    const int64_t d = row % width;
    const double* const from = v.values.data() + row * time;
    double* const to = y.values.data() + row * time;
    for (int64_t s = 0; s < std::min(taps, time); ++s) {
      const double tap = o.h[d * taps + s] + (s == 0 && parts & with_skip ? o.skip[d] : 0);
      for (int64_t t = s; t < time; ++t) to[t] += tap * from[t - s];
    }
    for (int64_t t = 0; t < time && parts & with_after; ++t) to[t] *= o.after[row * time + t];
  }
  return y;
}

Array direct_row(const Array& u, const Array& h) { return direct_sum({u, h}, none); }

Array sum_by_transforms(const Array& u, const Array& h) {
  size_t n = 1;
  while (n < u.values.size() + h.values.size()) n *= 2;
  Complexes x(n), filter(n);
  std::copy(u.values.begin(), u.values.end(), x.begin());
  std::copy(h.values.begin(), h.values.end(), filter.begin());
  transform(x, false);
  transform(filter, false);
  for (size_t k = 0; k < n; ++k) x[k] *= filter[k] / static_cast<double>(n);
  transform(x, true);
  Array y(u.shape);
  for (int64_t t = 0; t < y.size(); ++t) y[t] = x[static_cast<size_t>(t)].real();
  return y;
}

double rms(const std::vector<double>& values) {
  double total = 0;
  for (const double x : values) total += x * x;
  return std::sqrt(total / static_cast<double>(values.size()));
}

double relative_rms_error(const Tensor& actual, const Array& expected) {
  std::vector<double> error = actual.to_vector<double>();
  for (size_t i = 0; i < error.size(); ++i) error[i] -= expected.values[i];
  return rms(error) / rms(expected.values);
}

// Both gradients are causal convolutions of rows turned round in time: du reversed is dy reversed convolved with h, and
// dh reversed is dy reversed convolved with u.
ConvRow::ConvRow(int64_t n, int64_t taps, DType dtype, Array (*reference)(const Array& u, const Array& h)) {
  const auto draw = [&](uint64_t seed, const Shape& shape) {
    return make_input({shape}, dtype, seed + 3 * static_cast<uint64_t>(n), false);
  };
  u = draw(0, {1, 1, n});
  h = draw(1, {1, taps});
  dy = draw(2, {1, 1, n});
  const Array signal = to_array(u), filter = to_array(h), gradient = reversed(to_array(dy));
  y = reference(signal, filter);
  du = reversed(reference(gradient, filter));
  dh = in_shape(reversed(reference(gradient, in_shape(signal, {1, n}))), {1, std::min(taps, n)});
}

double ConvRow::worst_error(ConvAlgorithm algorithm) const {
  Tensor leaf_u = u.detach(), leaf_h = h.detach();
  leaf_u.set_requires_grad(true);
  leaf_h.set_requires_grad(true);
  const Tensor result = long_conv(leaf_u, leaf_h, {.algorithm = algorithm});
  backward({result}, {dy});
  return std::max(
      {relative_rms_error(result, y), relative_rms_error(leaf_u.grad(), du), relative_rms_error(leaf_h.grad(), dh)});
}

}  // namespace mahia::tests
