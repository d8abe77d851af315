// SPDX-License-Identifier: Apache-2.0
#include "ops/compare.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>

#include "core/factory.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

using Op = Tensor (*)(const Tensor&, const Tensor&);
using Flags = std::vector<bool>;

const auto each = boost::test_tools::per_element();

// The reference takes operands of one shape.
OpCase where_case(const Shape& condition, const Shape& a, const Shape& b) {
  return {message(condition, " ? ", a, " : ", b),
          {{condition, 0, 2, DType::boolean, false}, {a}, {b}},
          [](const Tensors& x) { return Tensors{where(x[0], x[1], x[2])}; },
          [](const Arrays& x) {
            Array y(x[1].shape);
            for (int64_t i = 0; i < y.size(); ++i) y[i] = x[0][i] != 0 ? x[1][i] : x[2][i];
            return Arrays{y};
          }};
}

std::vector<OpCase> where_cases() {
  std::vector<OpCase> list;
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{0, 2}, Shape{3, 5}, Shape{4, 3, 7}, Shape{131}}) {
    list.push_back(where_case(shape, shape, shape));
  }
  list.push_back(where_case({4, 1}, {3}, {1, 1}));
  list.back().name = "everything broadcasts";
  list.back().reference = [](const Arrays& x) {
    Array y({4, 3});
    for (int64_t i = 0; i < 12; ++i) y[i] = x[0][i / 3] != 0 ? x[1][i % 3] : x[2][0];
    return Arrays{y};
  };
  return list;
}

std::vector<OpCase> where_device_cases() {
  std::vector<OpCase> list = {where_case({257, 1}, {129}, {257, 129}),
                              where_case({1023}, {33, 1}, {}),
                              where_case({2, 1, 4, 1, 7}, {3, 1, 5, 1}, {5, 7}),
                              where_case({65537, 1}, {3}, {65537, 3}),
                              where_case({3}, {65537, 1}, {1}),
                              where_case({1}, {0, 5}, {5})};
  for (const Shape& shape : {Shape{31}, Shape{32}, Shape{255}, Shape{1025}, Shape{127, 129}, Shape{1000003}}) {
    list.push_back(where_case(shape, shape, shape));
  }
  return list;
}

using Holds = bool (*)(double, double);

// Operands of one shape; whole numbers are often equal.
OpCase comparison_case(Op op, Holds holds, const Shape& shape, DType dtype) {
  return {message(shape, " ", dtype),
          {{shape, 0, 3, dtype}, {shape, 0, 3, dtype}},
          [=](const Tensors& x) { return Tensors{op(x[0], x[1])}; },
          [=](const Arrays& x) {
            Array y(x[0].shape);
            for (int64_t i = 0; i < y.size(); ++i) y[i] = holds(x[0][i], x[1][i]);
            return Arrays{y};
          }};
}

std::vector<OpCase> comparison_cases(Op op, Holds holds, const std::vector<Shape>& shapes) {
  std::vector<OpCase> list;
  for (const Shape& shape : shapes) {
    for (const DType dtype : {DType::f64, DType::i64, DType::u8}) {
      list.push_back(comparison_case(op, holds, shape, dtype));
    }
  }
  return list;
}

OpSpec spec_of(const char* name, Op op, Holds holds) {
  return OpSpec(
      name,
      [=] {
        return comparison_cases(op, holds, {{}, {1}, {0, 2}, {4, 3, 7}, {131}});
      },
      {.gradient = false, .device_cases = [=] {
         std::vector<OpCase> list = comparison_cases(op, holds, {{31}, {1025}, {127, 129}, {65537, 3}});
         list.push_back(
             {"broadcast", {{{257, 1}}, {{129}}}, [=](const Tensors& x) { return Tensors{op(x[0], x[1])}; }, {}});
         return list;
       }});
}

const OpSpec eq_spec = spec_of("eq", eq, [](double a, double b) { return a == b; });
const OpSpec ne_spec = spec_of("ne", ne, [](double a, double b) { return a != b; });
const OpSpec lt_spec = spec_of("lt", lt, [](double a, double b) { return a < b; });
const OpSpec le_spec = spec_of("le", le, [](double a, double b) { return a <= b; });
const OpSpec gt_spec = spec_of("gt", gt, [](double a, double b) { return a > b; });
const OpSpec ge_spec = spec_of("ge", ge, [](double a, double b) { return a >= b; });
const OpSpec where_spec("where", where_cases, {.device_cases = where_device_cases});

BOOST_AUTO_TEST_SUITE(compare)

BOOST_AUTO_TEST_CASE(comparisons_hold_for_every_dtype) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::i64, DType::i32, DType::u8}) {
    const Tensor a = Tensor(mahia::full({3}, 1, dtype)), b = arange(3, dtype);
    BOOST_TEST_CONTEXT(name_of(dtype)) {
      BOOST_TEST(eq(b, a).to_vector<bool>() == (Flags{false, true, false}), each);
      BOOST_TEST(ne(b, a).to_vector<bool>() == (Flags{true, false, true}), each);
      BOOST_TEST(lt(b, a).to_vector<bool>() == (Flags{true, false, false}), each);
      BOOST_TEST(le(b, a).to_vector<bool>() == (Flags{true, true, false}), each);
      BOOST_TEST(gt(b, a).to_vector<bool>() == (Flags{false, false, true}), each);
      BOOST_TEST(ge(b, a).to_vector<bool>() == (Flags{false, true, true}), each);
      BOOST_TEST(lt(b, 1).to_vector<bool>() == (Flags{true, false, false}), each);
      BOOST_TEST(ge(b, 1).to_vector<bool>() == (Flags{false, true, true}), each);
    }
  }
}

BOOST_AUTO_TEST_CASE(not_a_number_compares_as_ieee_says) {
  const Tensor x = Tensor::from({NAN, 1.0f}, {2});
  for (const Op op : std::initializer_list<Op>{eq, lt, le, gt, ge}) BOOST_TEST(op(x, x).to_vector<bool>()[0] == false);
  BOOST_TEST(ne(x, x).to_vector<bool>() == (Flags{true, false}), each);
}

BOOST_AUTO_TEST_CASE(comparisons_broadcast_and_promote) {
  const Tensor column = Tensor::from({0.5f, 1.5f}, {2, 1});
  BOOST_TEST(lt(arange(3), column).to_vector<bool>() == (Flags{true, false, false, true, true, false}), each);
  const Tensor large = arange(100000, DType::i32);
  const auto flags = lt(large, 77777).to_vector<bool>();
  BOOST_TEST(std::count(flags.begin(), flags.end(), true) == 77777);
}

BOOST_AUTO_TEST_CASE(errors_name_the_op_and_every_operand) {
  check_throws<ShapeError>([] { eq(zeros({2}), zeros({3})); }, "eq: shapes [2] and [3] do not broadcast");
  check_throws<DTypeError>([] { where(zeros({2}), zeros({2}), zeros({2})); },
                           "where: the condition must be bool: condition f32 [2] cpu:0, a f32 [2] cpu:0, b f32 [2]");
  check_throws<DTypeError>([] { gt(arange(3), 0.5); }, "gt: the number 0.5 is not whole");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
