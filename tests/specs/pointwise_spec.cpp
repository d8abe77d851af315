// SPDX-License-Identifier: Apache-2.0
#include "ops/pointwise.hpp"

#include <bit>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <numbers>

#include "autograd/backward.hpp"
#include "core/factory.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

using Op = Tensor (*)(const Tensor&);
using Reference = double (*)(double);

Array map(const Array& x, Reference f) {
  Array y(x.shape);
  for (int64_t i = 0; i < x.size(); ++i) y[i] = f(x[i]);
  return y;
}

double logistic(double x) { return 1 / (1 + std::exp(-x)); }
double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }
double gelu_by_tanh(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

// Sizes one, zero, no multiple of any block, and more than one task.
const std::vector<Shape> shapes = {{}, {1}, {3, 0}, {2, 5, 7}, {33, 17}};
const std::vector<Shape> device_shapes = {{31},      {33},       {128},      {255},      {1023},          {1025},
                                          {5, 0, 7}, {129, 127}, {3, 20011}, {65537, 2}, {2, 3, 4, 5, 7}, {1, 1, 257},
                                          {1000003}};

std::vector<OpCase> cases(Op op, Reference f, double low, double high, const std::vector<Shape>& list_of_shapes,
                          const Shape& transposed) {
  std::vector<OpCase> list;
  for (const Shape& shape : list_of_shapes) {
    list.push_back({message(shape),
                    {{shape, low, high}},
                    [op](const Tensors& x) { return Tensors{op(x[0])}; },
                    [f](const Arrays& x) { return Arrays{map(x[0], f)}; }});
  }
  list.push_back({"transposed",
                  {{transposed, low, high}},
                  [op](const Tensors& x) { return Tensors{transpose(op(transpose(x[0], 0, 1)), 0, 1)}; },
                  [f](const Arrays& x) { return Arrays{map(x[0], f)}; }});
  return list;
}

OpSpec spec_of(const char* name, Op op, Reference f, double low, double high) {
  return OpSpec(name,
                [=] {
                  return cases(op, f, low, high, shapes, {9, 14});
                },
                {.device_cases = [=] {
                  return cases(op, f, low, high, device_shapes, {33, 129, 2, 3, 5});
                }});
}

const OpSpec neg_spec = spec_of(
    "neg", neg, [](double x) { return -x; }, -3, 3);
const OpSpec abs_spec = spec_of("abs", abs, std::fabs, -3, 3);
const OpSpec exp_spec = spec_of("exp", exp, std::exp, -5, 2);
const OpSpec log_spec = spec_of("log", log, std::log, 0.1, 5);
const OpSpec sqrt_spec = spec_of("sqrt", sqrt, std::sqrt, 0.1, 5);
const OpSpec rsqrt_spec = spec_of(
    "rsqrt", rsqrt, [](double x) { return 1 / std::sqrt(x); }, 0.1, 5);
const OpSpec sin_spec = spec_of("sin", sin, std::sin, -8, 8);
const OpSpec cos_spec = spec_of("cos", cos, std::cos, -8, 8);
const OpSpec tanh_spec = spec_of("tanh", tanh, std::tanh, -3, 3);
const OpSpec sigmoid_spec = spec_of("sigmoid", sigmoid, logistic, -6, 6);
const OpSpec relu_spec = spec_of(
    "relu", relu, [](double x) { return std::max(x, 0.0); }, -3, 3);
const OpSpec silu_spec = spec_of(
    "silu", silu, [](double x) { return x * logistic(x); }, -6, 6);
const OpSpec softplus_spec = spec_of(
    "softplus", [](const Tensor& x) { return softplus(x, 2, 5); },
    [](double x) { return 2 * x > 5 ? x : std::log1p(std::exp(2 * x)) / 2; }, -5, 2.4);
const OpSpec gelu_spec = spec_of(
    "gelu", [](const Tensor& x) { return gelu(x); }, [](double x) { return x * normal_cdf(x); }, -6, 6);
const OpSpec gelu_tanh_spec = spec_of(
    "gelu_tanh", [](const Tensor& x) { return gelu(x, Approximate::tanh); }, gelu_by_tanh, -6, 6);
const OpSpec clamp_spec = spec_of(
    "clamp", [](const Tensor& x) { return clamp(x, -0.75, 1.25); },
    [](double x) { return std::min(std::max(x, -0.75), 1.25); }, -3, 3);

// Every 4001st of the finite f32 numbers in [low, high], of both signs.
std::vector<float> floats_between(float low, float high) {
  std::vector<float> values;
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 4001) {
    const auto x = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (x >= low && x <= high) values.push_back(x);
  }
  return values;
}

// The largest error in units in the last place of the f32 result; results below 1e-36 count from there.
double largest_error(Op op, Reference f, const std::vector<float>& x) {
  const auto y = op(Tensor::from(x, {static_cast<int64_t>(x.size())})).to_vector<float>();
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = f(static_cast<double>(x[i]));
    if (std::isinf(static_cast<float>(exact))) {
      if (y[i] != static_cast<float>(exact)) return INFINITY;
      continue;
    }
    const double unit = std::ldexp(1.0, std::ilogb(std::max(std::fabs(exact), 1e-36)) - 23);
    worst = std::max(worst, std::fabs(static_cast<double>(y[i]) - exact) / unit);
  }
  return worst;
}

BOOST_AUTO_TEST_SUITE(pointwise)

BOOST_AUTO_TEST_CASE(f32_functions_err_by_two_units_in_the_last_place_at_most) {
  const float all = 3e38f;
  BOOST_TEST(largest_error(exp, std::exp, floats_between(-all, all)) < 2);
  BOOST_TEST(largest_error(log, std::log, floats_between(1e-45f, all)) < 2);
  BOOST_TEST(largest_error(tanh, std::tanh, floats_between(-all, all)) < 2);
  BOOST_TEST(largest_error(sigmoid, logistic, floats_between(-all, all)) < 2);
  BOOST_TEST(largest_error(sin, std::sin, floats_between(-all, all)) < 2);
  BOOST_TEST(largest_error(cos, std::cos, floats_between(-all, all)) < 2);
  BOOST_TEST(largest_error([](const Tensor& x) { return softplus(x); },
                           [](double x) { return x > 20 ? x : std::log1p(std::exp(x)); },
                           floats_between(-all, all)) < 2);
}

// Far in the left tail too, where 1 + erf(x) or 1 + tanh(x) would leave no digit.
BOOST_AUTO_TEST_CASE(f32_gates_keep_their_digits_in_the_tails) {
  const std::vector<float> x = floats_between(-80, 1e10f);
  BOOST_TEST(largest_error(
                 silu, [](double v) { return v * logistic(v); }, x) < 2.5);
  BOOST_TEST(largest_error([](const Tensor& t) { return gelu(t); }, [](double v) { return v * normal_cdf(v); }, x) < 6);
  BOOST_TEST(largest_error([](const Tensor& t) { return gelu(t, Approximate::tanh); },
                           [](double v) {
                             const double u = 2 * std::sqrt(2 / std::numbers::pi) * (v + 0.044715 * v * v * v);
                             return v * logistic(u);
                           },
                           x) < 3);
}

BOOST_AUTO_TEST_CASE(special_values_stay_special) {
  const Tensor x = Tensor::from({INFINITY, -INFINITY, NAN, -0.0f, 89.0f, -110.0f}, {6});
  const auto is = [&](Op op, const std::vector<double>& expected) {
    Array array(x.shape());
    array.values = expected;
    check_close(op(x), array, {1e-6, 0});
  };
  is(exp, {INFINITY, 0, NAN, 1, INFINITY, 0});
  is(log, {INFINITY, NAN, NAN, -INFINITY, std::log(89.0), NAN});
  is(tanh, {1, -1, NAN, 0, 1, -1});
  is(sigmoid, {1, 0, NAN, 0.5, 1, 0});
  is(relu, {INFINITY, 0, NAN, 0, 89, 0});
  is(sin, {NAN, NAN, NAN, 0, std::sin(89.0), std::sin(-110.0)});
  is([](const Tensor& t) { return gelu(t); }, {INFINITY, NAN, NAN, 0, 89, 0});
  is([](const Tensor& t) { return softplus(t); }, {INFINITY, 0, NAN, std::log(2.0), 89, 0});
}

BOOST_AUTO_TEST_CASE(a_value_does_not_depend_on_its_neighbours) {
  const Tensor x = randn({1000}) * 3;
  for (const Op op :
       {exp, log, tanh, sigmoid, silu, sin, cos, static_cast<Op>([](const Tensor& t) { return gelu(t); })}) {
    const Tensor whole = op(x);
    for (const int64_t i : {0, 1, 7, 500, 998, 999}) check_same_bits(op(narrow(x, 0, i, 1)), narrow(whole, 0, i, 1));
  }
}

BOOST_AUTO_TEST_CASE(integers_and_bad_numbers_are_rejected) {
  check_throws<DTypeError>([] { mahia::exp(arange(4)); }, "exp: needs an f64, f32 or bf16 tensor, got i64 [4] cpu:0");
  check_throws<ValueError>([] { mahia::softplus(zeros({1}), 0); }, "softplus: beta is 0, must be positive");
  check_throws<ValueError>([] { mahia::clamp(zeros({1}), 2, 1); }, "clamp: low 2 is above high 1");
}

BOOST_AUTO_TEST_CASE(gelu_of_huge_numbers_is_themselves_or_zero) {
  for (const Approximate way : {Approximate::none, Approximate::tanh}) {
    const Tensor x = Tensor::from({1e20f, 3e38f, -1e20f}, {3}).set_requires_grad(true);
    const Tensor y = gelu(x, way);
    BOOST_TEST(y.to_vector<float>() == (std::vector<float>{1e20f, 3e38f, 0}), boost::test_tools::per_element());
    backward(sum(y));
    BOOST_TEST(x.grad().to_vector<float>() == (std::vector<float>{1, 1, 0}), boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
