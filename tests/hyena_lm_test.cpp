// SPDX-License-Identifier: Apache-2.0
#include "nn/models/hyena_lm.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>

#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/binary.hpp"
#include "ops/cross_entropy.hpp"
#include "ops/index.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/fixture.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::nn::models {
namespace {

using tests::check_near;
using tests::check_throws;

BOOST_AUTO_TEST_SUITE(hyena_lm)

BOOST_AUTO_TEST_CASE(names_and_the_count_of_parameters_are_the_references) {
  tests::check_names(HyenaLM({}), "hyena_lm_synthetic");
  BOOST_TEST(HyenaLM({}).num_parameters() == 128128);
  BOOST_TEST(HyenaLM({.mlp = false}).num_parameters() == 128128 - 2 * (2 * 64 + 64 * 256 + 256 + 256 * 64 + 64));
}

BOOST_AUTO_TEST_CASE(initial_weights_follow_gpt2) {
  for (const auto& [name, tensor] : HyenaLM({}).named_parameters()) {
    const double deviation = std::sqrt(mean(tensor * tensor).item<double>());
    const bool is_map = tensor.rank() == 2 && name.ends_with(".weight"), is_filter = name.find("filter") != name.npos;
    const bool is_residual = name.ends_with("out_proj.weight") || name.ends_with("fc2.weight");
    const double wanted = is_residual ? 0.01 : 0.02;
    if (is_map) BOOST_TEST(std::abs(deviation / wanted - 1) < 0.2, name << " " << deviation);
    if (name.ends_with("bias") && !is_filter) BOOST_TEST(deviation == 0, name);
    if (name.find("implicit_filter") != name.npos && name.ends_with("bias")) BOOST_TEST(deviation == 0, name);
  }
}

BOOST_AUTO_TEST_CASE(it_sees_no_future_and_masks_targets) {
  HyenaLM model({});
  model.eval();
  const Tensor tokens = randint(0, 10, {3, 22}), other = clone(tokens);
  fill(narrow(other, 1, 21, 1), 9);
  const Tensor a = model(tokens), b = model(other);
  check_near(narrow(b, 1, 0, 21), narrow(a, 1, 0, 21), 1e-5, "logits of the past");
  const Tensor rows = Tensor::from<int64_t>({65, 0, 30}, {3});
  check_near(model.at_rows(tokens, rows), index_select(reshape(a, {66, 10}), 0, rows), 1e-6, "logits of some rows");
  std::vector<int64_t> targets(66, -100);
  targets[21] = 4;
  targets[50] = 7;
  const Tensor masked = Tensor::from(targets, {66});
  check_near(model.loss(tokens, reshape(masked, {3, 22})), cross_entropy(reshape(a, {66, 10}), masked), 1e-6, "loss");
  check_throws<ShapeError>([&] { model(rows); }, "HyenaLM: needs tokens (B, T)");
  check_throws<ShapeError>([&] { model.loss(tokens, masked); }, "HyenaLM: tokens and targets must have one shape");
}

BOOST_AUTO_TEST_CASE(it_takes_real_inputs) {
  const HyenaLM model({.vocab = 1, .width = 16, .layers = 1, .real_inputs = 6});
  BOOST_TEST(model(randn({4, 22, 6})).shape() == (Shape{4, 22, 1}));
  check_throws<ShapeError>([&] { model(randint(0, 2, {4, 22})); }, "HyenaLM: needs real inputs (B, T, real_inputs)");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn::models
