// SPDX-License-Identifier: Apache-2.0
// Shared experts, and experts of a user's own.
#include "nn/experts.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/factory.hpp"
#include "nn/init.hpp"
#include "nn/models/hyena_moe_lm.hpp"
#include "nn/sparse_moe.hpp"
#include "ops/binary.hpp"
#include "ops/compare.hpp"
#include "ops/grouped_mm.hpp"
#include "ops/linear.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::nn {
namespace {

using tests::check_close;
using tests::check_same_bits;
using tests::check_throws;
using tests::to_array;

constexpr int64_t width = 4;

Tensor random(const Shape& shape, uint16_t call, DType dtype = DType::f32) {
  return randn(shape, {random_key("tests", "experts"), call}, dtype);
}

// One linear map for each expert.
class LinearExperts : public ExpertStack {
 public:
  LinearExperts(int64_t experts, int64_t in_and_out)
      : weight_(parameter("weight",
                          init::fan_in_uniform({experts, in_and_out, in_and_out}, in_and_out, init_call("weight")))) {}
  Tensor operator()(const Tensor& tokens, const MoePlan& plan, int64_t) const override {
    return grouped_mm(moe_dispatch(tokens, plan), weight_, plan.offsets);
  }

 private:
  Tensor weight_;
};

// Rows of another number than the plan has.
class WrongExperts : public ExpertStack {
 public:
  Tensor operator()(const Tensor& tokens, const MoePlan&, int64_t) const override { return tokens; }
};

BOOST_AUTO_TEST_SUITE(experts)

BOOST_AUTO_TEST_CASE(experts_of_a_user_s_own_take_the_place_of_the_usual_ones) {
  MoeConfig c{.width = width, .num_experts = 3, .top_k = 3};
  c.make_experts = [] { return std::make_shared<LinearExperts>(3, width); };
  SparseMoETopK moe(c);
  const NamedTensors state = moe.named_parameters();
  BOOST_REQUIRE(state.size() == 2u);
  BOOST_TEST(state[1].first == "experts.weight");
  const Tensor x = random({6, width}, 0);
  backward(sum(moe(x).y));
  BOOST_TEST(state[1].second.grad().defined());
  const NoGrad no_grad;
  const Router router({.width = width, .num_experts = 3, .top_k = 3});
  copy_into(state[0].second, router.parameters()[0]);
  const Tensor p = router(x).probabilities;
  Tensor expected = zeros({6, width});
  for (int64_t e = 0; e < 3; ++e) {
    expected = expected + linear(x, select(state[1].second, 0, e)) * narrow(p, 1, e, 1);
  }
  check_close(moe(x).y, to_array(expected), {1e-5, 1e-6});
}

BOOST_AUTO_TEST_CASE(shared_experts_serve_every_token_but_padding) {
  MoeConfig c{.width = width, .hidden = 6, .num_experts = 4, .top_k = 2, .expert = ExpertKind::swiglu, .bias = true};
  SparseMoETopK plain(c);
  c.shared_experts = 2;
  SparseMoETopK moe(c);
  BOOST_TEST(moe.state_dict().back().first == "shared.b_down");
  moe.load_state_dict(plain.state_dict(), false);
  const NamedTensors state = moe.state_dict();
  const auto of = [&](const std::string& name) {
    return select(std::ranges::find(state, "shared." + name, [](const auto& each) { return each.first; })->second, 0,
                  0);
  };
  BOOST_TEST((of("w_up").shape() == Shape{12, width}));
  const Tensor x = random({5, width}, 8), mask = gt(Tensor::from({1.0f, 1.0f, 0.0f, 1.0f, 1.0f}, {5}), 0);
  const NoGrad no_grad;
  const Tensor h = silu(linear(x, of("w_gate"), of("b_gate"))) * linear(x, of("w_up"), of("b_up"));
  const Tensor all = linear(h, of("w_down"), of("b_down"));
  check_close(moe(x).y, to_array(plain(x).y + all), {1e-5, 1e-6});
  const Tensor masked = moe(x, mask).y;
  check_same_bits(contiguous(narrow(masked, 0, 2, 1)), zeros({1, width}));
  check_close(contiguous(narrow(masked, 0, 0, 2)), to_array(contiguous(narrow(moe(x).y, 0, 0, 2))), {1e-6, 1e-7});
  models::HyenaMoeLMConfig lm{.vocab = 20, .width = 16, .layers = 1, .l_max = 8, .experts = 4, .hidden = 16};
  lm.shared_experts = 1;
  const models::HyenaMoeLM model(lm);
  const NamedTensors names = model.state_dict();
  BOOST_TEST(std::ranges::count(names, "layers.0.moe.shared.w_up", [](const auto& each) { return each.first; }) == 1);
  c.shared_experts = -1;
  check_throws<ValueError>([&] { SparseMoETopK wrong(c); },
                           "SparseMoETopK: shared_experts is -1, must not be negative");
}

BOOST_AUTO_TEST_CASE(arguments_that_make_no_sense_are_refused) {
  MoeConfig c{.width = width, .num_experts = 4, .top_k = 2};
  c.make_experts = [] { return std::make_shared<WrongExperts>(); };
  const SparseMoETopK moe(c);
  check_throws<ShapeError>(
      [&] {
        moe(zeros({5, width}));
      },
      "SparseMoETopK: the experts must give (10, 4), gave f32 [5, 4] cpu:0");
  const Experts many({.width = 4, .hidden = 4, .num_experts = 2});
  check_throws<ValueError>(
      [&] {
        many.for_all(zeros({3, 4}));
      },
      "Experts: only a single expert serves all tokens, there are 2");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
