// SPDX-License-Identifier: Apache-2.0
// Experts that choose their tokens, instead of tokens that choose experts.
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "nn/models/hyena_moe_lm.hpp"
#include "nn/routing_trace.hpp"
#include "ops/binary.hpp"
#include "ops/compare.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/moe_reference.hpp"
#include "tests/support/numeric_gradient.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::nn {
namespace {

using tests::check_gradients;
using tests::check_throws;
using tests::to_array;

Tensor random(const Shape& shape, uint16_t call, DType dtype = DType::f32) {
  return randn(shape, {random_key("tests", "expert_choice"), call}, dtype);
}

MoeConfig choosing_experts(int64_t k, double factor) {
  MoeConfig c{.width = 6, .hidden = 10, .num_experts = 4, .top_k = k, .router = RouterKind::expert_choice};
  c.capacity = {.train_factor = factor, .eval_factor = factor};
  c.causal = false;
  return c;
}

BOOST_AUTO_TEST_SUITE(expert_choice)

BOOST_AUTO_TEST_CASE(experts_that_choose_equal_plain_loops) {
  const Tensor x = random({13, 6}, 7, DType::f64);
  std::vector<bool> valid(13, true);
  for (size_t t = 4; t < 9; ++t) valid[t] = false;
  const Tensor mask = gt(Tensor::from(std::vector<float>(valid.begin(), valid.end()), {13}), 0);
  const NoGrad no_grad;
  for (const auto& [k, factor, slots] : {std::tuple<int64_t, double, int64_t>{1, 1, 4},
                                         {2, 0.5, 4},
                                         {2, 1, 7},
                                         {4, 1, 13},
                                         {3, 1000, 13},
                                         {2, 0.1, 1}}) {
    for (const std::optional<bool> renormalize : {std::optional<bool>(), std::optional<bool>(true)}) {
      for (const bool padded : {false, true}) {
        MoeConfig c = choosing_experts(k, factor);
        c.renormalize = renormalize;
        SparseMoETopK moe(c);
        moe.to(DType::f64, {});
        tests::MoeCase given{c, slots};
        if (padded) given.valid = valid;
        const tests::MoeReference expected = tests::moe_reference(tests::State(moe), given, to_array(x));
        const MoeOutput out = moe(x, padded ? mask : Tensor());
        BOOST_TEST_CONTEXT("k " << k << ", factor " << factor << ", padded " << padded) {
          tests::check_close(out.y, expected.y, {1e-10, 1e-12});
          BOOST_TEST((out.stats.kept.to_vector<int64_t>() == expected.kept));
          BOOST_TEST((out.stats.counts.to_vector<int64_t>() == expected.counts));
          BOOST_TEST(out.stats.tally().conserved());
        }
      }
    }
  }
  SparseMoETopK moe(choosing_experts(2, 1));
  for (const Shape& shape : {Shape{0, 3, 6}, Shape{2, 0, 6}, Shape{1, 1, 6}}) {
    BOOST_TEST((moe(random(shape, 8)).y.shape() == shape));
  }
}

BOOST_AUTO_TEST_CASE(experts_that_choose_are_refused_where_later_tokens_must_not_matter) {
  const auto refused = [](const MoeConfig& c, const std::string& text) {
    check_throws<ValueError>([&] { SparseMoETopK moe(c); }, text);
  };
  MoeConfig c = choosing_experts(2, 1);
  c.causal = true;
  refused(c, "Router: expert_choice is refused in causal models: a token's experts depend on later tokens");
  models::HyenaMoeLMConfig lm{.vocab = 20, .width = 16, .layers = 1, .l_max = 8, .experts = 4, .hidden = 16};
  lm.router = RouterKind::expert_choice;
  lm.capacity = {.train_factor = 1, .eval_factor = 1};
  check_throws<ValueError>([&] { models::HyenaMoeLM model(lm); }, "expert_choice is refused in causal models");
  c = choosing_experts(2, 1);
  c.capacity.eval_factor = 0;
  refused(c, "SparseMoETopK: expert_choice needs a capacity in training and evaluation, got the factors 1 and 0");
  c = choosing_experts(2, 1);
  c.capacity.overflow = Overflow::residual;
  refused(c, "SparseMoETopK: with expert_choice nothing overflows, so there is no policy for it");
  c = choosing_experts(2, 1);
  c.losses = {AuxLoss::sequence};
  refused(c, "SparseMoETopK: with expert_choice there is no loss by sequence");
  c = choosing_experts(2, 1);
  c.routing.select_bias = true;
  refused(c, "Router: expert_choice has no use for a selection bias or groups: no token chooses");
}

BOOST_AUTO_TEST_CASE(there_is_nothing_to_record) {
  const SparseMoETopK moe(choosing_experts(2, 1));
  RouterChoices choices;
  const RecordedRouting recording(choices);
  tests::check_throws<ValueError>(
      [&] {
        moe(ones({9, 6}));
      },
      "Router: with expert_choice no token chooses: nothing to record or replay");
}

BOOST_AUTO_TEST_CASE(gradients_equal_central_differences) {
  SparseMoETopK moe(choosing_experts(2, 1));
  moe.to(DType::f64, {});
  const Tensor x = random({9, 6}, 1, DType::f64).set_requires_grad(true), dy = random({9, 6}, 2, DType::f64);
  const auto loss = [&] { return sum(moe(x).y * dy); };
  backward(loss());
  NamedTensors leaves = moe.named_parameters();
  leaves.emplace_back("x", x);
  const NoGrad no_grad;
  check_gradients(leaves, loss);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
