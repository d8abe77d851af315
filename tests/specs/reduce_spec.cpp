// SPDX-License-Identifier: Apache-2.0
#include "ops/reduce.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "core/factory.hpp"
#include "ops/binary.hpp"
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

// For ops that need an element, the empty case has its empty axis kept.
std::vector<OpCase> cases(Op op, Reference f, Empty empty) {
  std::vector<OpCase> list;
  const auto add_case = [&](const Shape& shape, const Shape& axes, bool keepdim) {
    list.push_back({message(shape, " over ", axes, keepdim ? " kept" : ""),
                    {{shape}},
                    [=](const Tensors& x) { return Tensors{op(x[0], axes, keepdim)}; },
                    [=](const Arrays& x) { return Arrays{reduced(x[0], axes, keepdim, f)}; }});
  };
  add_case({1}, {}, false);
  add_case({3, 0}, empty == Empty::reduced ? Shape{1} : Shape{0}, false);
  add_case({5, 7}, {}, false);
  add_case({5, 7}, {0}, true);
  add_case({5, 7}, {1}, false);
  add_case({3, 4, 5}, {0, 2}, false);
  add_case({3, 4, 5}, {1}, true);
  add_case({2, 3, 2, 3}, {1, 2}, false);
  add_case({1, 37}, {1}, false);
  return list;
}

const OpSpec sum_spec("sum", [] { return cases(sum, sum_of, Empty::reduced); });
const OpSpec mean_spec("mean", [] { return cases(mean, mean_of, Empty::kept); });
const OpSpec var_spec("var", [] {
  return cases([](const Tensor& x, const Shape& axes, bool keepdim) { return var(x, axes, 0.5, keepdim); }, var_of,
               Empty::kept);
});
const OpSpec amax_spec("amax", [] { return cases(amax, max_of, Empty::kept); });
const OpSpec amin_spec("amin", [] { return cases(amin, min_of, Empty::kept); });
const OpSpec logsumexp_spec("logsumexp", [] { return cases(logsumexp, logsumexp_of, Empty::reduced); });

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
  BOOST_TEST(argmax(x, 1).to_vector<int64_t>() == (std::vector<int64_t>{1, 1}), boost::test_tools::per_element());
  BOOST_TEST(logsumexp(full({4}, -INFINITY)).item<double>() == -INFINITY);
  BOOST_TEST(logsumexp(Tensor::from({INFINITY, 1.0f}, {2})).item<double>() == INFINITY);
  BOOST_TEST(logsumexp(full({2}, 1000)).item<double>() == 1000 + std::log(2.0), boost::test_tools::tolerance(1e-7));
}

BOOST_AUTO_TEST_CASE(argmax_takes_the_first_of_equals_along_any_axis) {
  const Tensor x = Tensor::from({1.0f, 4.0f, 4.0f, 7.0f, 2.0f, 7.0f}, {2, 3});
  const auto each = boost::test_tools::per_element();
  BOOST_TEST(argmax(x, 1).to_vector<int64_t>() == (std::vector<int64_t>{1, 0}), each);
  BOOST_TEST(argmax(x, 0).to_vector<int64_t>() == (std::vector<int64_t>{1, 0, 1}), each);
  BOOST_TEST(argmax(transpose(x, 0, 1), 0, true).to_vector<int64_t>() == (std::vector<int64_t>{1, 0}), each);
  BOOST_TEST((argmax(x, -1, true).shape() == Shape{2, 1}));
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
  check_throws<ValueError>([] { argmax(zeros({0}), 0); }, "argmax: no element to choose from in axis 0");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
