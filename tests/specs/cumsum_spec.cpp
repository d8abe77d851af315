// SPDX-License-Identifier: Apache-2.0
#include "ops/cumsum.hpp"

#include <boost/test/unit_test.hpp>

#include "core/factory.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

Array cumsum_of(const Array& x, int axis) {
  Array y = x;
  int64_t step = 1;
  for (int i = axis + 1; i < x.shape.rank(); ++i) step *= x.shape[i];
  for (int64_t i = 0; i < y.size(); ++i) {
    if (i / step % x.shape[axis] > 0) y[i] += y[i - step];
  }
  return y;
}

OpCase cumsum_case(const Shape& shape, int axis) {
  return {message(shape, " axis ", axis),
          {{shape}},
          [axis](const Tensors& x) { return Tensors{cumsum(x[0], axis)}; },
          [axis](const Arrays& x) { return Arrays{cumsum_of(x[0], axis)}; }};
}

std::vector<OpCase> cases() {
  return {cumsum_case({1}, 0),     cumsum_case({4, 0}, 1),  cumsum_case({0, 4}, 1),
          cumsum_case({3, 17}, 1), cumsum_case({3, 17}, 0), cumsum_case({2, 5, 70}, 1)};
}

std::vector<OpCase> device_cases() {
  std::vector<OpCase> list = {
      cumsum_case({1000003}, 0),   cumsum_case({65537, 3}, 0),       cumsum_case({65537, 3}, 1),
      cumsum_case({3, 65537}, 0),  cumsum_case({3, 65537}, 1),       cumsum_case({129, 1}, 1),
      cumsum_case({1, 129, 1}, 1), cumsum_case({2, 3, 33, 4, 5}, 2), cumsum_case({5, 4, 3, 2, 257}, 4)};
  for (const int64_t n : {31, 32, 33, 127, 128, 255, 256, 257, 1023, 1025}) list.push_back(cumsum_case({7, n}, 1));
  return list;
}

const OpSpec cumsum_spec("cumsum", cases, {.device_cases = device_cases});

BOOST_AUTO_TEST_SUITE(cumsum_integers)

BOOST_AUTO_TEST_CASE(integers_and_flags_add_up_in_i64) {
  const auto each = boost::test_tools::per_element();
  BOOST_TEST(cumsum(full({3}, 200, DType::u8), 0).to_vector<int64_t>() == (std::vector<int64_t>{200, 400, 600}), each);
  const Tensor flags = Tensor::from({true, false, true}, {3});
  BOOST_TEST(cumsum(flags, -1).to_vector<int64_t>() == (std::vector<int64_t>{1, 1, 2}), each);
}

BOOST_AUTO_TEST_CASE(bad_axes_and_f16_are_rejected) {
  check_throws<IndexError>([] { cumsum(zeros({2}), 1); }, "cumsum: axis 1 is out of range for a tensor of 1 axes");
  check_throws<DTypeError>([] { cumsum(zeros({2}, DType::f16), 0); }, "cumsum: f16 is for storage only: f16 [2] cpu:0");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
