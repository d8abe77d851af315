// SPDX-License-Identifier: Apache-2.0
#include "ops/dropout.hpp"

#include <boost/test/unit_test.hpp>

#include "autograd/backward.hpp"
#include "core/factory.hpp"
#include "ops/reduce.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

const RandomCall call{0x1234567890abcdefu, 3, 41};

Array dropout_of(const Array& x, double p) {
  Array y(x.shape);
  for (int64_t i = 0; i < x.size(); ++i) {
    const double u =
        static_cast<double>(uniform(random_words(call, static_cast<uint64_t>(i / 4))[static_cast<size_t>(i % 4)]));
    y[i] = u >= p ? x[i] / (1 - p) : 0;
  }
  return y;
}

std::vector<OpCase> cases(const std::vector<Shape>& shapes) {
  std::vector<OpCase> list;
  for (const Shape& shape : shapes) {
    for (const double p : {0.0, 0.25, 0.9}) {
      list.push_back({message(shape, " p ", p),
                      {{shape}},
                      [p](const Tensors& x) { return Tensors{dropout(x[0], p, call)}; },
                      [p](const Arrays& x) { return Arrays{dropout_of(x[0], p)}; }});
    }
  }
  return list;
}

const OpSpec dropout_spec("dropout",
                          [] {
                            return cases({{1}, {0, 3}, {5, 7}, {63}, {2, 3, 11}, {257}});
                          },
                          {.device_cases = [] {
                            return cases({{31}, {128}, {1023}, {1025}, {129, 255}, {2, 3, 4, 5, 7}, {500009}});
                          }});

BOOST_AUTO_TEST_SUITE(dropout_masks)

BOOST_AUTO_TEST_CASE(a_fraction_p_is_dropped_and_the_mean_stays) {
  const Tensor y = dropout(ones({400000}), 0.3, call);
  double zero = 0;
  for (const float v : y.to_vector<float>()) zero += v == 0;
  BOOST_TEST(zero / 400000 == 0.3, boost::test_tools::tolerance(0.01));
  BOOST_TEST(mean(y).item<double>() == 1.0, boost::test_tools::tolerance(0.005));
}

BOOST_AUTO_TEST_CASE(backward_uses_the_mask_of_the_forward) {
  Tensor x = ones({50000});
  x.set_requires_grad(true);
  const Tensor y = dropout(x, 0.5, call);
  backward(sum(y));
  check_same_bits(x.grad(), y);
}

BOOST_AUTO_TEST_CASE(everything_is_dropped_at_p_one) {
  BOOST_TEST(sum(dropout(ones({100}), 1, call)).item<double>() == 0);
}

BOOST_AUTO_TEST_CASE(bad_probabilities_and_integers_are_rejected) {
  check_throws<ValueError>([] { dropout(ones({2}), 1.5, call); },
                           "dropout: p is 1.5, must be in [0, 1]: x f32 [2] cpu:0");
  check_throws<DTypeError>([] { dropout(arange(2), 0.5, call); }, "dropout: needs f64, f32 or bf16, got i64 [2] cpu:0");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
