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

std::vector<OpCase> where_cases() {
  std::vector<OpCase> list;
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{0, 2}, Shape{3, 5}, Shape{4, 3, 7}, Shape{131}}) {
    list.push_back({message(shape),
                    {{shape, 0, 2, DType::boolean, false}, {shape}, {shape}},
                    [](const Tensors& x) { return Tensors{where(x[0], x[1], x[2])}; },
                    [](const Arrays& x) {
                      Array y(x[1].shape);
                      for (int64_t i = 0; i < y.size(); ++i) y[i] = x[0][i] != 0 ? x[1][i] : x[2][i];
                      return Arrays{y};
                    }});
  }
  list.push_back({"everything broadcasts",
                  {{{4, 1}, 0, 2, DType::boolean, false}, {{3}}, {{1, 1}}},
                  [](const Tensors& x) { return Tensors{where(x[0], x[1], x[2])}; },
                  [](const Arrays& x) {
                    Array y({4, 3});
                    for (int64_t i = 0; i < 12; ++i) y[i] = x[0][i / 3] != 0 ? x[1][i % 3] : x[2][0];
                    return Arrays{y};
                  }});
  return list;
}

const OpSpec where_spec("where", where_cases);

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
