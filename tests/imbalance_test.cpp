// SPDX-License-Identifier: Apache-2.0
#include "nn/imbalance.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>

#include "core/factory.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::nn {
namespace {

using tests::check_throws;

// Of four layers with four experts.
void check_values(Imbalance metric, const std::vector<double>& expected, const Tensor& kept = {}) {
  const std::vector<int64_t> n = {8, 0, 0, 0, 2, 2, 2, 2, 0, 0, 0, 0, 4, 2, 1, 1};
  const Tensor got = imbalance(metric, Tensor::from(n, {4, 4}), kept);
  BOOST_TEST((got.shape() == Shape{4} && got.dtype() == DType::f64));
  const std::vector<double> values = got.to_vector<double>();
  for (size_t l = 0; l < 4; ++l) BOOST_TEST(std::abs(values[l] - expected[l]) <= 1e-14, "layer " << l);
}

BOOST_AUTO_TEST_SUITE(imbalance_of_experts)

BOOST_AUTO_TEST_CASE(each_metric_has_the_value_computed_by_hand) {
  check_values(Imbalance::max_violation, {3, 0, 0, 1});
  check_values(Imbalance::variation, {std::sqrt(3.0), 0, 0, std::sqrt(0.375)});
  check_values(Imbalance::entropy, {1, 0, 0, 0.125});  // H(1/2, 1/4, 1/8, 1/8) = 7/4 of 2 bits
  const std::vector<int64_t> kept = {2, 0, 0, 0, 2, 2, 2, 2, 0, 0, 0, 0, 2, 2, 1, 1};
  check_values(Imbalance::drop_rate, {0.75, 0, 0, 0.25}, Tensor::from(kept, {4, 4}));
}

BOOST_AUTO_TEST_CASE(one_expert_or_no_layer_is_even) {
  for (const Imbalance metric : {Imbalance::max_violation, Imbalance::variation, Imbalance::entropy}) {
    BOOST_TEST(imbalance(metric, full({1, 1}, 7, DType::i64)).item<double>() == 0);
    BOOST_TEST(imbalance(metric, zeros({0, 3}, DType::i64)).numel() == 0);
  }
}

BOOST_AUTO_TEST_CASE(operands_that_do_not_fit_are_refused) {
  const Tensor counts = ones({2, 4}, DType::i64);
  check_throws<ShapeError>([&] { imbalance(Imbalance::entropy, ones({4}, DType::i64)); },
                           "imbalance: needs counts (L, E), got i64 [4]");
  check_throws<ValueError>([&] { imbalance(Imbalance::drop_rate, counts); },
                           "imbalance: the drop rate is known only where the experts have a capacity");
  check_throws<ShapeError>(
      [&] {
        imbalance(Imbalance::drop_rate, counts, ones({2, 3}, DType::i64));
      },
      "imbalance: counts and kept (L, E) disagree: counts i64 [2, 4] cpu:0, kept i64 [2, 3]");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
