// SPDX-License-Identifier: Apache-2.0
#include "ops/mse_loss.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>

#include "core/factory.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

OpCase loss_case(const Shape& shape, Reduction reduction) {
  return {message(shape, ", reduction ", static_cast<int>(reduction)),
          {{shape}, {shape}},
          [=](const Tensors& x) { return Tensors{mse_loss(x[0], x[1], reduction)}; },
          [=](const Arrays& x) {
            Array each(shape), all((Shape()));
            for (int64_t i = 0; i < each.size(); ++i) {
              each[i] = (x[0][i] - x[1][i]) * (x[0][i] - x[1][i]);
              all[0] += each[i];
            }
            if (reduction == Reduction::mean) all[0] /= static_cast<double>(each.size());
            return Arrays{reduction == Reduction::none ? each : all};
          }};
}

std::vector<OpCase> cases() {
  return {loss_case({1}, Reduction::mean),       loss_case({0, 3}, Reduction::sum),
          loss_case({}, Reduction::mean),        loss_case({4, 7}, Reduction::none),
          loss_case({2, 3, 5}, Reduction::mean), loss_case({19, 11}, Reduction::sum)};
}

std::vector<OpCase> device_cases() {
  std::vector<OpCase> list;
  for (const Reduction reduction : {Reduction::none, Reduction::mean, Reduction::sum}) {
    for (const Shape& shape : {Shape{31}, Shape{1025}, Shape{129, 257}, Shape{65537, 2}, Shape{3, 4, 5, 6, 7}}) {
      list.push_back(loss_case(shape, reduction));
    }
  }
  list.push_back(loss_case({1000003}, Reduction::mean));
  list.push_back(loss_case({0, 129}, Reduction::none));
  return list;
}

const OpSpec mse_loss_spec("mse_loss", cases, {.device_cases = device_cases});

BOOST_AUTO_TEST_SUITE(mse_loss)

BOOST_AUTO_TEST_CASE(names_operands_that_do_not_fit) {
  check_throws<ShapeError>(
      [] {
        mahia::mse_loss(zeros({2, 3}), zeros({2}));
      },
      "mse_loss: shapes differ: x f32 [2, 3] cpu:0, target f32 [2] cpu:0");
  check_throws<DTypeError>([] { mahia::mse_loss(zeros({2}), arange(2)); },
                           "mse_loss: needs two tensors of one floating dtype: x f32 [2] cpu:0, target i64 [2] cpu:0");
}

BOOST_AUTO_TEST_CASE(the_mean_of_nothing_is_nan) {
  BOOST_TEST(std::isnan(mahia::mse_loss(zeros({0}), zeros({0})).item<float>()));
}

BOOST_AUTO_TEST_CASE(sums_over_many_tiles) {
  const Tensor x = full({3, 20000}, 3), target = full({3, 20000}, 1);
  BOOST_TEST(mahia::mse_loss(x, target, Reduction::sum).item<float>() == 240000.0f);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
