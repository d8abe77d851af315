// SPDX-License-Identifier: Apache-2.0
#include "ops/cast.hpp"

#include <boost/test/unit_test.hpp>

#include "autograd/backward.hpp"
#include "core/factory.hpp"
#include "ops/reduce.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

BOOST_AUTO_TEST_SUITE(cast)

BOOST_AUTO_TEST_CASE(every_dtype_converts_to_every_other) {
  const std::vector<DType> all = {DType::f64, DType::f32, DType::bf16, DType::f16,
                                  DType::i64, DType::i32, DType::u8,   DType::boolean};
  for (const DType from : all) {
    for (const DType target : all) {
      const Tensor x = arange(3, from), y = to(x, target);
      const bool flags = from == DType::boolean || target == DType::boolean;
      BOOST_TEST_CONTEXT(name_of(from) << " to " << name_of(target)) {
        BOOST_TEST((y.dtype() == target));
        BOOST_TEST(y.to_vector<int64_t>() == (std::vector<int64_t>{0, 1, flags ? 1 : 2}),
                   boost::test_tools::per_element());
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(fractions_are_dropped_and_nothing_is_copied_in_vain) {
  const Tensor x = Tensor::from({-1.75f, 2.75f}, {2});
  BOOST_TEST(to(x, DType::i32).to_vector<int64_t>() == (std::vector<int64_t>{-1, 2}), boost::test_tools::per_element());
  BOOST_TEST(to(x, DType::f32).is_same(x));
  BOOST_TEST(to(x, cpu_device).is_same(x));
}

BOOST_AUTO_TEST_CASE(the_gradient_comes_back_in_the_dtype_of_the_input) {
  Tensor x = ones({3}, DType::f64);
  x.set_requires_grad(true);
  backward(sum(to(x, DType::bf16)));
  BOOST_TEST((x.grad().dtype() == DType::f64));
  BOOST_TEST(x.grad().to_vector<double>() == (std::vector<double>{1, 1, 1}), boost::test_tools::per_element());
  BOOST_TEST(!to(x, DType::i64).requires_grad());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
