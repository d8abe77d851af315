// SPDX-License-Identifier: Apache-2.0
#include "ops/reduce.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "core/factory.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/shape.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

using Op = Tensor (*)(const Tensor&, const Shape& axes, bool keepdim);
using Reference = double (*)(const std::vector<double>&);

// f of the elements that share an output index; axes >= 0.
Array reduced(const Array& x, const Shape& axes, bool keepdim, Reference f) {
  Shape kept = x.shape, shape;
  for (int i = 0; i < x.shape.rank(); ++i) {
    const bool gone = axes.empty() || std::find(axes.begin(), axes.end(), i) != axes.end();
    if (gone) kept[i] = 1;
    if (!gone || keepdim) shape.push_back(kept[i]);
  }
  Array y(shape);
  std::vector<std::vector<double>> groups(y.values.size());
  for (int64_t i = 0; i < x.size(); ++i) {
    int64_t index = i, at = 0, step = 1;
    for (int axis = x.shape.rank() - 1; axis >= 0; --axis) {
      if (kept[axis] != 1) at += index % x.shape[axis] * step;
      step *= kept[axis];
      index /= x.shape[axis];
    }
    groups[static_cast<size_t>(at)].push_back(x[i]);
  }
  for (size_t i = 0; i < groups.size(); ++i) y.values[i] = f(groups[i]);
  return y;
}

double sum_of(const std::vector<double>& x) {
  double total = 0;
  for (const double v : x) total += v;
  return total;
}
double mean_of(const std::vector<double>& x) { return sum_of(x) / static_cast<double>(x.size()); }
double var_of(const std::vector<double>& x) {
  const double mean = mean_of(x);
  double total = 0;
  for (const double v : x) total += (v - mean) * (v - mean);
  return total / (static_cast<double>(x.size()) - 0.5);
}
double max_of(const std::vector<double>& x) { return *std::max_element(x.begin(), x.end()); }
double min_of(const std::vector<double>& x) { return *std::min_element(x.begin(), x.end()); }
double logsumexp_of(const std::vector<double>& x) {
  double total = 0;
  for (const double v : x) total += std::exp(v);
  return std::log(total);
}

enum class Empty { reduced, kept };

struct Axes {
  Shape shape, axes;
  bool keepdim = false;
};

std::vector<OpCase> cases(Op op, Reference f, const std::vector<Axes>& list_of_axes) {
  std::vector<OpCase> list;
  for (const auto& a : list_of_axes) {
    list.push_back({message(a.shape, " over ", a.axes, a.keepdim ? " kept" : ""),
                    {{a.shape}},
                    [=](const Tensors& x) { return Tensors{op(x[0], a.axes, a.keepdim)}; },
                    [=](const Arrays& x) { return Arrays{reduced(x[0], a.axes, a.keepdim, f)}; }});
  }
  return list;
}

// For ops that need an element, the empty case has its empty axis kept.
std::vector<Axes> small(Empty empty) {
  const int64_t axis_of_nothing = empty == Empty::reduced ? 1 : 0;
  return {{{1}, {}},           {{3, 0}, {axis_of_nothing}}, {{5, 7}, {}},           {{5, 7}, {0}, true}, {{5, 7}, {1}},
          {{3, 4, 5}, {0, 2}}, {{3, 4, 5}, {1}, true},      {{2, 3, 2, 3}, {1, 2}}, {{1, 37}, {1}}};
}

const std::vector<Axes> large = {{{1000003}, {}},
                                 {{65537, 2}, {0}},
                                 {{65537, 2}, {1}},
                                 {{3, 20011}, {0}},
                                 {{3, 20011}, {1}, true},
                                 {{129, 257}, {}},
                                 {{129, 257}, {0}},
                                 {{129, 257}, {1}},
                                 {{31, 33, 32}, {1}},
                                 {{31, 33, 32}, {0, 2}},
                                 {{2, 3, 4, 5, 33}, {0, 2, 4}},
                                 {{2, 3, 4, 5, 33}, {1, 3}, true},
                                 {{1025, 1}, {1}},
                                 {{1, 1023}, {0}},
                                 {{255, 1}, {0}},
                                 {{256, 128}, {0}},
                                 {{127, 0}, {0}},
                                 {{7, 1, 65, 1, 9}, {2, 3}}};

OpCase permuted_case(Op op, const Shape& axes) {
  return {message("permuted over ", axes),
          {{{9, 33, 65}}},
          [=](const Tensors& x) {
            return Tensors{op(permute(x[0], {2, 0, 1}), axes, false)};
          },
          {}};
}

OpSpec spec_of(const char* name, Op op, Reference f, Empty empty) {
  return OpSpec(name, [=] { return cases(op, f, small(empty)); }, {.device_cases = [=] {
                  std::vector<OpCase> list = cases(op, f, large);
                  for (int64_t axis = 0; axis < 3; ++axis) list.push_back(permuted_case(op, {axis}));
                  list.push_back(permuted_case(op, {0, 2}));
                  return list;
                }});
}

const OpSpec sum_spec = spec_of("sum", sum, sum_of, Empty::reduced);
const OpSpec mean_spec = spec_of("mean", mean, mean_of, Empty::kept);
const OpSpec var_spec = spec_of(
    "var", [](const Tensor& x, const Shape& axes, bool keepdim) { return var(x, axes, 0.5, keepdim); }, var_of,
    Empty::kept);
const OpSpec amax_spec = spec_of("amax", amax, max_of, Empty::kept);
const OpSpec amin_spec = spec_of("amin", amin, min_of, Empty::kept);
const OpSpec logsumexp_spec = spec_of("logsumexp", logsumexp, logsumexp_of, Empty::reduced);

double first_largest_of(const std::vector<double>& x) {
  return static_cast<double>(std::max_element(x.begin(), x.end()) - x.begin());
}

OpCase argmax_case(const Shape& shape, int64_t axis, bool keepdim = false, DType dtype = DType::f64) {
  const int64_t from_left = axis < 0 ? axis + shape.rank() : axis;
  return {message(shape, " axis ", axis, keepdim ? " kept " : " ", dtype),
          {{shape, dtype == DType::u8 ? 0.0 : -3.0, 3, dtype}},
          [=](const Tensors& x) {
            const Tensor y = argmax(x[0], axis, keepdim);
            BOOST_TEST((y.dtype() == DType::i64));
            return Tensors{y};
          },
          [=](const Arrays& x) { return Arrays{reduced(x[0], {from_left}, keepdim, first_largest_of)}; }};
}

std::vector<OpCase> argmax_cases() {
  return {argmax_case({1}, 0),
          argmax_case({3, 0}, 0),
          argmax_case({7}, 0, true),
          argmax_case({5, 7}, 0),
          argmax_case({5, 7}, 1, true),
          argmax_case({3, 4, 5}, -2),
          argmax_case({2, 131}, -1),
          argmax_case({37, 1}, 1),
          argmax_case({5, 40}, 1, false, DType::i64),  // many ties
          argmax_case({40, 5}, 0, false, DType::u8),
          argmax_case({3, 17, 2}, 1, false, DType::i32)};
}

std::vector<OpCase> argmax_device_cases() {
  return {argmax_case({1000003}, 0),
          argmax_case({65537, 2}, 0),
          argmax_case({65537, 2}, 1),
          argmax_case({129, 257}, 0, true),
          argmax_case({129, 257}, 1, false, DType::i64),
          argmax_case({31, 33, 32}, 1),
          argmax_case({3, 20011}, 1, false, DType::u8),
          argmax_case({2, 3, 33, 4, 5}, 2, false, DType::i32)};
}

const OpSpec argmax_spec("argmax", argmax_cases, {.gradient = false, .device_cases = argmax_device_cases});

BOOST_AUTO_TEST_SUITE(reduce)

BOOST_AUTO_TEST_CASE(long_sums_over_rows_columns_and_both_keep_their_digits) {
  const Tensor x = rand({1500, 700});
  const auto values = x.to_vector<double>();
  std::vector<double> columns(700), rows(1500);
  double total = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    columns[i % 700] += values[i];
    rows[i / 700] += values[i];
    total += values[i];
  }
  const auto by_column = sum(x, {0}).to_vector<double>(), by_row = sum(x, {1}).to_vector<double>();
  for (size_t i = 0; i < 700; ++i) BOOST_TEST(by_column[i] == columns[i], boost::test_tools::tolerance(1e-6));
  for (size_t i = 0; i < 1500; ++i) BOOST_TEST(by_row[i] == rows[i], boost::test_tools::tolerance(1e-6));
  BOOST_TEST(sum(x).item<double>() == total, boost::test_tools::tolerance(2e-7));  // 1.7 ulp
}

BOOST_AUTO_TEST_CASE(bf16_sums_are_rounded_once) {
  const Tensor x = full({64, 3, 64}, 1.0 / 256, DType::bf16);
  BOOST_TEST(sum(x, {0, 2}).to_vector<float>() == (std::vector<float>{16, 16, 16}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(integers_and_flags_add_up_in_i64) {
  const Tensor flags = lt(arange(100000), 70001);
  const Tensor count = sum(flags);
  BOOST_TEST((count.dtype() == DType::i64));
  BOOST_TEST(count.item<int64_t>() == 70001);
  BOOST_TEST(sum(full({3, 2}, 200, DType::u8), {0}).to_vector<int64_t>() == (std::vector<int64_t>{600, 600}),
             boost::test_tools::per_element());
  BOOST_TEST(amax(arange(7, DType::i32)).item<int64_t>() == 6);
  BOOST_TEST(amin(Tensor::from({int64_t{3}, INT64_MAX, INT64_MIN}, {3})).item<int64_t>() == INT64_MIN);
}

BOOST_AUTO_TEST_CASE(not_a_number_wins_and_infinities_do_not_make_one) {
  const Tensor x = Tensor::from({1.0f, NAN, 3.0f, 2.0f, 5.0f, 5.0f}, {2, 3});
  BOOST_TEST(std::isnan(amax(x, {1}).to_vector<float>()[0]));
  BOOST_TEST(std::isnan(amin(x, {1}).to_vector<float>()[0]));
  BOOST_TEST(logsumexp(full({4}, -INFINITY)).item<double>() == -INFINITY);
  BOOST_TEST(logsumexp(Tensor::from({INFINITY, 1.0f}, {2})).item<double>() == INFINITY);
  BOOST_TEST(logsumexp(full({2}, 1000)).item<double>() == 1000 + std::log(2.0), boost::test_tools::tolerance(1e-7));
}

BOOST_AUTO_TEST_CASE(argmax_takes_the_first_nan_of_a_row) {
  const double n = NAN, inf = INFINITY;
  const Tensor x = Tensor::from({1.0, n, 3.0, n, n, n, inf, n, -inf, -inf, -inf, -inf, 2.0, inf, inf, 1.0}, {4, 4});
  const auto each = boost::test_tools::per_element();
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    const Tensor y = to(x, dtype);
    BOOST_TEST(argmax(y, 1).to_vector<int64_t>() == (std::vector<int64_t>{1, 0, 0, 1}), each);
    BOOST_TEST(argmax(y, 0).to_vector<int64_t>() == (std::vector<int64_t>{1, 0, 1, 0}), each);
  }
}

BOOST_AUTO_TEST_CASE(argmax_takes_the_first_of_equals_along_any_axis) {
  const Tensor x = Tensor::from({1.0f, 4.0f, 4.0f, 7.0f, 2.0f, 7.0f}, {2, 3});
  const auto each = boost::test_tools::per_element();
  BOOST_TEST(argmax(x, 1).to_vector<int64_t>() == (std::vector<int64_t>{1, 0}), each);
  BOOST_TEST(argmax(x, 0).to_vector<int64_t>() == (std::vector<int64_t>{1, 0, 1}), each);
  BOOST_TEST(argmax(transpose(x, 0, 1), 0, true).to_vector<int64_t>() == (std::vector<int64_t>{1, 0}), each);
  BOOST_TEST(message(argmax(x, -1, true).shape()) == "[2, 1]");
}

BOOST_AUTO_TEST_CASE(errors_name_the_op_the_axes_and_the_operand) {
  const Tensor x = zeros({2, 3});
  check_throws<IndexError>([&] { sum(x, {2}); }, "sum: axis 2 is out of range for a tensor of 2 axes");
  check_throws<ValueError>([&] { mean(x, {1, -1}); }, "mean: axis -1 appears twice in [1, -1]");
  check_throws<DTypeError>([] { mean(arange(3)); }, "mean: needs f64, f32 or bf16, got i64 [3] cpu:0");
  check_throws<ValueError>(
      [] {
        amax(zeros({3, 0}), {1});
      },
      "amax: no element to choose from in axes [1] of f32 [3, 0] cpu:0");
  check_throws<ValueError>([] { argmax(zeros({0}), 0); },
                           "argmax: no element to choose from in axis 0 of f32 [0] cpu:0");
  check_throws<IndexError>([&] { argmax(x, -3); }, "argmax: axis -3 is out of range for a tensor of 2 axes");
  check_throws<DTypeError>([&] { argmax(to(x, DType::f16), 0); }, "argmax: f16 is for storage only: f16 [2, 3] cpu:0");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
