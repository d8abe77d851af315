// SPDX-License-Identifier: Apache-2.0
#include "ops/norm.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>

#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/shape.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

constexpr double eps = 1e-5;

// Mean and biased variance of x[at(0)], ..., x[at(n - 1)].
template <class At>
std::pair<double, double> moments(const Array& x, int64_t n, At&& at) {
  double mean = 0, var = 0;
  for (int64_t i = 0; i < n; ++i) mean += x[at(i)] / static_cast<double>(n);
  for (int64_t i = 0; i < n; ++i) var += (x[at(i)] - mean) * (x[at(i)] - mean) / static_cast<double>(n);
  return {mean, var};
}

Array layer_norm_of(const Arrays& x, bool centred) {
  Array y = x[0];
  const int64_t n = y.shape.back();
  for (int64_t row = 0; n > 0 && row < y.size() / n; ++row) {
    const auto [mean, var] = moments(x[0], n, [&](int64_t i) { return row * n + i; });
    const double scale = 1 / std::sqrt(centred ? var + eps : var + mean * mean + eps);
    for (int64_t i = 0; i < n; ++i) {
      const double z = (x[0][row * n + i] - (centred ? mean : 0)) * scale;
      y[row * n + i] = z * (x.size() > 1 ? x[1][i] : 1) + (x.size() > 2 ? x[2][i] : 0);
    }
  }
  return y;
}

// `operands`: x alone, with a weight, with weight and bias.
OpCase row_case(const Shape& shape, int operands, bool centred) {
  std::vector<Input> inputs = {{shape}};
  for (int i = 1; i < operands; ++i) inputs.push_back({{shape.back()}});
  return {message(shape, ", ", operands, " operands"), inputs,
          [=](const Tensors& x) {
            const Tensor weight = operands > 1 ? x[1] : Tensor(), bias = operands > 2 ? x[2] : Tensor();
            return Tensors{centred ? layer_norm(x[0], weight, bias, eps) : rms_norm(x[0], weight, eps)};
          },
          [=](const Arrays& x) { return Arrays{layer_norm_of(x, centred)}; }};
}

std::vector<OpCase> layer_norm_cases() {
  return {row_case({1}, 3, true),     row_case({0, 4}, 3, true),     row_case({3, 0}, 3, true),
          row_case({4, 7}, 1, true),  row_case({2, 3, 33}, 2, true), row_case({70, 5}, 3, true),
          row_case({3, 101}, 3, true)};
}

std::vector<OpCase> rms_norm_cases() {
  return {row_case({1}, 2, false), row_case({0, 4}, 2, false), row_case({4, 7}, 1, false),
          row_case({2, 3, 33}, 2, false), row_case({70, 5}, 2, false)};
}

Array batch_norm_of(const Arrays& x, bool training) {
  Array y = x[0];
  const int64_t channels = y.shape[1], time = y.shape.rank() == 3 ? y.shape[2] : 1, count = y.shape[0] * time;
  for (int64_t c = 0; c < channels; ++c) {
    const auto at = [&](int64_t i) { return (i / time * channels + c) * time + i % time; };
    auto [mean, var] = moments(x[0], count, at);
    if (!training) mean = 0.25, var = 2;
    for (int64_t i = 0; i < count; ++i) y[at(i)] = (x[0][at(i)] - mean) / std::sqrt(var + eps) * x[1][c] + x[2][c];
  }
  return y;
}

OpCase batch_case(const Shape& shape, bool training) {
  const int64_t channels = shape[1];
  return {message(shape, training ? " training" : ""),
          {{shape}, {{channels}}, {{channels}}},
          [=](const Tensors& x) {
            const DType dtype = x[0].dtype() == DType::f64 ? DType::f64 : DType::f32;
            const Device device = x[0].device();
            const Tensor mean = full({channels}, 0.25, dtype, device), var = full({channels}, 2, dtype, device);
            return Tensors{batch_norm(x[0], x[1], x[2], mean, var, training, 0.1, eps).y};
          },
          [=](const Arrays& x) { return Arrays{batch_norm_of(x, training)}; }};
}

std::vector<OpCase> batch_norm_cases() {
  return {batch_case({1, 1}, false),    batch_case({0, 3}, true),  batch_case({5, 3}, true),
          batch_case({4, 3, 11}, true), batch_case({3, 2}, false), batch_case({2, 5, 9}, false)};
}

std::vector<OpCase> row_device_cases(bool centred) {
  const int all = centred ? 3 : 2;
  std::vector<OpCase> list = {row_case({65537, 5}, all, centred),       row_case({3, 65537}, all, centred),
                              row_case({129, 1}, all, centred),         row_case({1025, 64}, all, centred),
                              row_case({2, 3, 4, 5, 33}, all, centred), row_case({0, 257}, all, centred),
                              row_case({31, 4099}, 1, centred),         row_case({300, 768}, 2, centred)};
  for (const int64_t n : {31, 32, 127, 128, 129, 255, 256, 257, 1023, 1025}) {
    list.push_back(row_case({n % 7 + 1, n}, static_cast<int>(n) % all + 1, centred));
  }
  return list;
}

std::vector<OpCase> batch_norm_device_cases() {
  std::vector<OpCase> list = {batch_case({65537, 3}, true),    batch_case({9, 65537}, true),
                              batch_case({9, 65537}, false),   batch_case({2, 1, 65537}, true),
                              batch_case({129, 33, 31}, true), batch_case({129, 33, 31}, false),
                              batch_case({1, 257, 128}, true), batch_case({1025, 1}, true),
                              batch_case({3, 7, 1023}, false), batch_case({0, 5, 33}, false)};
  for (const int64_t n : {31, 32, 127, 255, 256}) list.push_back(batch_case({n, n + 1, n % 4 + 1}, true));
  return list;
}

const OpSpec layer_norm_spec("layer_norm", layer_norm_cases, {.device_cases = [] { return row_device_cases(true); }});
const OpSpec rms_norm_spec("rms_norm", rms_norm_cases, {.device_cases = [] { return row_device_cases(false); }});
const OpSpec batch_norm_spec("batch_norm", batch_norm_cases, {.device_cases = batch_norm_device_cases});

BOOST_AUTO_TEST_SUITE(layer_norm)

BOOST_AUTO_TEST_CASE(names_operands_that_do_not_fit) {
  const Tensor x = zeros({2, 4});
  check_throws<ShapeError>([&] { mahia::layer_norm(x, zeros({3})); },
                           "layer_norm: weight must be [4]: x f32 [2, 4] cpu:0, weight f32 [3] cpu:0");
  check_throws<DTypeError>([&] { mahia::layer_norm(x, zeros({4}, DType::bf16)); },
                           "layer_norm: weight must have the dtype of x: x f32 [2, 4] cpu:0, weight bf16 [4] cpu:0");
  check_throws<DTypeError>([] { rms_norm(arange(4)); }, "rms_norm: needs a floating tensor, got i64 [4] cpu:0");
}

BOOST_AUTO_TEST_CASE(keeps_a_row_to_4e_7_of_its_largest_value_and_to_the_bits_it_has_alone) {
  for (const int64_t n : {1, 7, 64, 257, 3000}) {
    const Tensor x = randn({9, n});
    const Tensor y = mahia::layer_norm(x);
    const Array exact = layer_norm_of({to_array(x)}, true);
    double top = 0;
    for (const double v : exact.values) top = std::max(top, std::abs(v));
    check_close(y, exact, {0, 4e-7 * top});
    check_same_bits(mahia::layer_norm(contiguous(narrow(x, 0, 5, 1))), contiguous(narrow(y, 0, 5, 1)));
  }
}

BOOST_AUTO_TEST_CASE(takes_an_f32_weight_with_a_bf16_x) {
  const Tensor x = randn({3, 8}, DType::bf16), weight = randn({8}), bias = randn({8});
  const Tensor y = mahia::layer_norm(x, weight, bias);
  BOOST_TEST((y.dtype() == DType::bf16));
  check_close(y, layer_norm_of({to_array(x), to_array(weight), to_array(bias)}, true), tolerance_of(DType::bf16));
}

BOOST_AUTO_TEST_CASE(rms_norm_adds_the_smallest_step_of_its_dtype) {
  const Tensor x = full({4}, 1e-4);
  const double y = rms_norm(x).to_vector<double>()[0];
  BOOST_TEST(std::abs(y - 1e-4 / std::sqrt(1e-8 + 0x1p-23)) < 1e-6);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(batch_norm)

BOOST_AUTO_TEST_CASE(moves_running_statistics_and_changes_no_operand) {
  const Tensor x = Tensor::from({1.0f, 2.0f, 3.0f, 6.0f}, {4, 1}), mean = full({1}, 1), var = full({1}, 2);
  const BatchNorm result = mahia::batch_norm(x, {}, {}, mean, var, true, 0.5);
  BOOST_TEST(result.running_mean.item<float>() == 2.0f);                                 // (1 + 3) / 2
  BOOST_TEST(std::abs(result.running_var.item<float>() - (2 + 14.0f / 3) / 2) < 1e-6f);  // unbiased variance 14 / 3
  BOOST_TEST(mean.item<float>() == 1.0f);
  BOOST_TEST(mahia::batch_norm(x, {}, {}, mean, var, false).running_mean.is_same(mean));
}

BOOST_AUTO_TEST_CASE(names_what_is_missing) {
  check_throws<ValueError>(
      [] {
        mahia::batch_norm(zeros({1, 3}), {}, {}, {}, {}, true);
      },
      "batch_norm: needs more than one value per channel when training: x f32 [1, 3] cpu:0");
  check_throws<ValueError>(
      [] {
        mahia::batch_norm(zeros({2, 3}), {}, {}, {}, {}, false);
      },
      "batch_norm: needs both running statistics unless training: running_mean undefined");
  check_throws<ShapeError>([] { mahia::batch_norm(zeros({3}), {}, {}, {}, {}, true); },
                           "batch_norm: x must be (N, C) or (N, C, T): x f32 [3] cpu:0");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
