// SPDX-License-Identifier: Apache-2.0
#include "ops/fft.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <numbers>

#include "core/factory.hpp"
#include "ops/shape.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

// The angle 2 pi k t / n, its whole turns taken off first.
double angle(int64_t k, int64_t t, int64_t n) {
  return 2 * std::numbers::pi * static_cast<double>(k * t % n) / static_cast<double>(n);
}

Array direct_rfft(const Array& x, int64_t n) {
  const int64_t time = x.shape.back(), frequencies = n / 2 + 1;
  Shape shape = x.shape;
  shape[shape.rank() - 1] = frequencies;
  shape.push_back(2);
  Array y(shape);
  for (int64_t i = 0; i < y.size() / 2; ++i) {
    const int64_t row = i / frequencies, k = i % frequencies;
    for (int64_t t = 0; t < std::min(time, n); ++t) {
      y[2 * i] += x[row * time + t] * std::cos(angle(k, t, n));
      y[2 * i + 1] -= x[row * time + t] * std::sin(angle(k, t, n));
    }
  }
  return y;
}

Array direct_irfft(const Array& x, int64_t n) {
  Shape shape = x.shape;
  shape.erase(shape.rank() - 1);
  const int64_t frequencies = shape.back();
  shape[shape.rank() - 1] = n;
  Array y(shape);
  for (int64_t i = 0; i < y.size(); ++i) {
    const int64_t row = i / n, t = i % n;
    for (int64_t k = 0; k < std::min(frequencies, n / 2 + 1); ++k) {
      const double* value = &x.values[static_cast<size_t>(2 * (row * frequencies + k))];
      const bool edge = k == 0 || 2 * k == n;
      const double turned = std::cos(angle(k, t, n)) * value[0] - (edge ? 0 : std::sin(angle(k, t, n)) * value[1]);
      y[i] += (edge ? 1 : 2) * turned / static_cast<double>(n);
    }
  }
  return y;
}

OpCase rfft_case(const Shape& shape, int64_t n = -1) {
  const int64_t length = n == -1 ? shape.back() : n;
  return {message(shape, " n ", n),
          {{shape}},
          [=](const Tensors& x) { return Tensors{rfft(x[0], n)}; },
          [=](const Arrays& x) { return Arrays{direct_rfft(x[0], length)}; }};
}

OpCase irfft_case(const Shape& shape, int64_t n = -1) {
  const int64_t length = n == -1 ? 2 * (shape[shape.rank() - 2] - 1) : n;
  return {message(shape, " n ", n),
          {{shape}},
          [=](const Tensors& x) { return Tensors{irfft(x[0], n)}; },
          [=](const Arrays& x) { return Arrays{direct_irfft(x[0], length)}; }};
}

std::vector<OpCase> rfft_cases() {
  return {rfft_case({1}),        rfft_case({0, 8}),  rfft_case({3, 0}, 4),  rfft_case({2}),      rfft_case({2, 3, 5}),
          rfft_case({3, 16}),    rfft_case({2, 33}), rfft_case({2, 64}),    rfft_case({1, 128}), rfft_case({2, 9}, 4),
          rfft_case({2, 9}, 12), rfft_case({2, 37}), rfft_case({2, 50}, 45)};
}

// One number as both parts of the only frequency.
OpCase irfft_of_one_number() {
  return {"one number",
          {{{1}}},
          [](const Tensors& x) {
            return Tensors{irfft(expand(x[0], {1, 2}), 1)};
          },
          [](const Arrays& x) { return x; }};
}

std::vector<OpCase> irfft_cases() {
  return {irfft_of_one_number(),      irfft_case({1, 2}, 1),     irfft_case({0, 5, 2}),    irfft_case({3, 0, 2}, 4),
          irfft_case({2, 2}),         irfft_case({2, 3, 4, 2}),  irfft_case({3, 9, 2}),    irfft_case({2, 17, 2}, 33),
          irfft_case({2, 33, 2}),     irfft_case({1, 65, 2}),    irfft_case({2, 5, 2}, 5), irfft_case({2, 5, 2}, 20),
          irfft_case({2, 19, 2}, 37), irfft_case({2, 30, 2}, 45)};
}

// Primes, powers of two, products of many factors, and their neighbours.
constexpr int64_t device_lengths[] = {31,   32,   127,  128,  129,  255,  256,  257,  360,   1000,  1009,
                                      1023, 1024, 1025, 4096, 4099, 5040, 8191, 8192, 16384, 19997, 20000};

std::vector<OpCase> rfft_device_cases() {
  std::vector<OpCase> list = {rfft_case({65537, 3}),    rfft_case({33, 257}, 1024), rfft_case({33, 1000}, 127),
                              rfft_case({5, 1}, 64),    rfft_case({5, 1}),          rfft_case({2, 3, 1, 4, 60}),
                              rfft_case({2, 0, 4}, 16), rfft_case({129, 100}, 1)};
  for (const int64_t n : device_lengths) list.push_back(rfft_case({2, n}));
  return list;
}

std::vector<OpCase> irfft_device_cases() {
  std::vector<OpCase> list = {irfft_case({65537, 2, 2}, 3),  irfft_case({33, 257, 2}, 1024),
                              irfft_case({33, 501, 2}, 127), irfft_case({5, 1, 2}, 64),
                              irfft_case({129, 50, 2}, 1),   irfft_case({2, 3, 1, 31, 2}),
                              irfft_case({2, 0, 4, 2})};
  for (const int64_t n : device_lengths) list.push_back(irfft_case({2, n / 2 + 1, 2}, n));
  return list;
}

const OpSpec rfft_spec("rfft", rfft_cases, {.f32_rtol = 1.3e-6, .f32_atol = 3e-5, .device_cases = rfft_device_cases});
const OpSpec irfft_spec("irfft", irfft_cases, {.device_cases = irfft_device_cases});

double relative_rms_error(const Tensor& actual, const std::vector<double>& expected) {
  const std::vector<double> values = actual.to_vector<double>();
  double error = 0, size = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    error += (values[i] - expected[i]) * (values[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  return std::sqrt(error / size);
}

void check_length(int64_t n) {
  for (const auto& [dtype, limit] : {std::pair(DType::f32, 4e-7), std::pair(DType::f64, 5e-15)}) {
    const Tensor x = make_input({{n}}, dtype, static_cast<uint64_t>(n), false);
    const Array values = to_array(x);
    BOOST_TEST(relative_rms_error(rfft(x), direct_rfft(values, n).values) <= limit, "length " << n);
    BOOST_TEST(relative_rms_error(irfft(rfft(x), n), values.values) <= 2 * limit, "there and back, length " << n);
  }
}

BOOST_AUTO_TEST_SUITE(fft)

BOOST_AUTO_TEST_CASE(rejects_operands_that_do_not_fit) {
  check_throws<DTypeError>([] { rfft(arange(4)); }, "rfft: needs f64, f32 or bf16, got i64 [4] cpu:0");
  check_throws<ShapeError>([] { rfft(scalar(1)); }, "rfft: x must be (..., T), got f32 [] cpu:0");
  check_throws<ValueError>([] { rfft(zeros({3, 0})); }, "rfft: length 0, must be at least 1: f32 [3, 0] cpu:0");
  check_throws<ValueError>([] { rfft(zeros({4}), -2); }, "rfft: length -2, must be at least 1");
  check_throws<ShapeError>([] { irfft(zeros({4, 3})); }, "irfft: x must be (..., M, 2), got f32 [4, 3] cpu:0");
  check_throws<ValueError>([] { irfft(zeros({1, 2})); }, "irfft: length 0, must be at least 1");
}

BOOST_AUTO_TEST_CASE(short_transforms_of_whole_numbers_are_exact) {
  const Tensor y = rfft(Tensor::from({1.0f, 2.0f, 3.0f, 4.0f}, {4}));
  BOOST_TEST(y.to_vector<float>() == (std::vector<float>{10, 0, -2, 2, -2, 0}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(keeps_its_error_for_lengths_of_every_kind) {
  for (const int64_t n : {1, 2, 3, 16, 17, 31, 32, 63, 64, 65, 127, 128, 150, 257, 640, 1000, 1009, 1536, 2002, 2048}) {
    check_length(n);
  }
}

BOOST_AUTO_TEST_CASE(a_row_has_the_same_bits_in_any_batch) {
  for (const int64_t n : {10, 37, 128, 250}) {
    const Tensor x = make_input({{5, n}}, DType::f32, 1, false), y = rfft(x);
    for (const int64_t row : {0, 2, 4}) check_same_bits(rfft(narrow(x, 0, row, 1)), narrow(y, 0, row, 1));
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(slow_fft)

BOOST_AUTO_TEST_CASE(keeps_its_error_for_every_length_to_512_and_some_larger) {
  for (int64_t n = 1; n <= 512; ++n) check_length(n);
  for (const int64_t n : {3000, 4096, 4999, 6000, 7919, 8191, 8192}) check_length(n);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
