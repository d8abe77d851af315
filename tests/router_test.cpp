// SPDX-License-Identifier: Apache-2.0
// The router, its losses and its statistics.
#include "nn/router.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "nn/sparse_moe.hpp"
#include "ops/binary.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/fixture.hpp"
#include "tests/support/op_spec.hpp"
#include "tests/support/warnings.hpp"

namespace mahia::nn {
namespace {

using tests::check_close;
using tests::check_near;
using tests::check_same_bits;
using tests::check_throws;
using tests::Fixture;
using tests::to_array;
using tests::warnings_of;

Tensor random(const Shape& shape, uint16_t call) { return randn(shape, {random_key("tests", "router"), call}); }

// The largest |gradient| of the router's weight when only the task asks for one.
float task_gradient(const MoeConfig& c) {
  SparseMoETopK moe(c);
  const Tensor dy = random({40, c.width}, 1);
  backward(sum(moe(random({40, c.width}, 0)).y * dy));
  float largest = 0;
  for (const float g : moe.named_parameters()[0].second.grad().to_vector<float>()) {
    largest = std::max(largest, std::abs(g));
  }
  return largest;
}

BOOST_AUTO_TEST_SUITE(router)

BOOST_AUTO_TEST_CASE(a_single_expert_teaches_the_router_unless_its_weight_is_renormalised) {
  const MoeConfig c{.width = 16, .hidden = 32, .num_experts = 4, .top_k = 1};
  BOOST_TEST(warnings_of([&] { BOOST_TEST(task_gradient(c) > 0.1f); }) == "");
  MoeConfig renormalised = c, post = c;
  renormalised.renormalize = true;
  post.router = RouterKind::post_softmax;
  for (const MoeConfig& blind : {renormalised, post}) {
    const std::string text = warnings_of([&] { BOOST_TEST(task_gradient(blind) < 1e-5f); });
    BOOST_TEST(
        text ==
        "mahia: warning: router: with top_k 1 a renormalised weight is always 1, so the task gives the router no "
        "gradient\n");
  }
}

BOOST_AUTO_TEST_CASE(too_many_choices_are_clamped_with_one_warning) {
  const std::string text = warnings_of([] {
    SparseMoETopK moe({.width = 8, .hidden = 8, .num_experts = 3, .top_k = 5});
    const NoGrad no_grad;
    moe(random({4, 8}, 2));
    BOOST_TEST((moe(random({4, 8}, 2)).stats.counts.to_vector<int64_t>() == std::vector<int64_t>{4, 4, 4}));
  });
  BOOST_TEST(text == "mahia: warning: router: top_k 5 is clamped to the 3 experts there are\n");
}

BOOST_AUTO_TEST_CASE(ties_go_to_the_lowest_expert_and_choices_descend) {
  const Router router({.width = 1, .num_experts = 5, .top_k = 3});
  const NoGrad no_grad;
  copy_into(Tensor::from({1.0f, 3.0f, 2.0f, 3.0f, 2.0f}, {5, 1}), router.parameters()[0]);
  const Routing r = router(ones({1, 1}));
  BOOST_TEST((r.indices.to_vector<int64_t>() == std::vector<int64_t>{1, 3, 2}));
  const std::vector<float> g = r.weights.to_vector<float>();
  BOOST_TEST(g[0] == g[1]);
  BOOST_TEST(g[2] < g[1]);
  BOOST_TEST(g[0] + g[1] + g[2] == 1.0f, boost::test_tools::tolerance(1e-6f));
}

BOOST_AUTO_TEST_CASE(arguments_that_make_no_sense_are_refused) {
  const auto make = [](const MoeConfig& c) { SparseMoETopK moe(c); };
  check_throws<ValueError>([&] { make({.width = 8, .hidden = 8, .num_experts = 4, .top_k = 0}); },
                           "Router: top_k is 0, must be at least 1");
  check_throws<ValueError>([&] { make({.width = 8, .hidden = 8, .num_experts = 0, .top_k = 1}); },
                           "Router: width 8 and num_experts 0 must be at least 1");
  check_throws<ValueError>([&] { make({.width = 0, .hidden = 8, .num_experts = 4, .top_k = 1}); },
                           "Router: width 0 and num_experts 4 must be at least 1");
  check_throws<ValueError>([&] { make({.width = 8, .hidden = 0, .num_experts = 4, .top_k = 1}); },
                           "Experts: width 8, hidden 0 and num_experts 4 must be at least 1");
  const SparseMoETopK moe({.width = 8, .hidden = 8, .num_experts = 4, .top_k = 2});
  check_throws<ShapeError>([&] { moe(zeros({2, 3, 7})); }, "SparseMoETopK: needs (.., 8), got f32 [2, 3, 7] cpu:0");
  check_throws<ShapeError>([&] { moe(zeros({8})); }, "SparseMoETopK: needs (.., 8), got f32 [8] cpu:0");
  const Router router({.width = 8, .num_experts = 4, .top_k = 2});
  check_throws<ShapeError>([&] { router(zeros({3, 7})); }, "Router: needs tokens (N, 8), got f32 [3, 7] cpu:0");
}

BOOST_AUTO_TEST_CASE(a_logit_that_is_not_finite_is_refused_with_its_token) {
  const SparseMoETopK moe({.width = 8, .hidden = 8, .num_experts = 4, .top_k = 2});
  for (const float bad : {NAN, INFINITY}) {
    const Tensor x = random({2, 3, 8}, 3);
    fill(select(select(x, 0, 1), 0, 2), bad);
    check_throws<ValueError>([&] { moe(x); }, "Router: the largest logit of token 5 is ");
    check_throws<ValueError>([&] { moe(x); }, ", must be finite");
  }
}

BOOST_AUTO_TEST_CASE(the_switch_loss_is_one_at_balance_and_flows_through_the_probabilities_alone) {
  const Tensor p = full({6, 3}, 1.0 / 3).set_requires_grad(true), even = Tensor::from({4, 4, 4}, {3});
  BOOST_TEST(switch_loss(even, p).item<float>() == 1.0f, boost::test_tools::tolerance(1e-6f));
  backward(switch_loss(Tensor::from({int64_t{6}, int64_t{0}, int64_t{6}}, {3}), p));  // E f_e / N
  const std::vector<float> row = {0.25f, 0, 0.25f};
  for (int64_t t = 0; t < 6; ++t) {
    check_close(select(p.grad(), 0, t), to_array(Tensor::from(row, {3})), {1e-6, 1e-8});
  }
  const Tensor one_sided = Tensor::from({1.0f, 0.0f, 1.0f, 0.0f}, {2, 2});
  BOOST_TEST(switch_loss(Tensor::from({2, 0}, {2}), one_sided).item<float>() == 2.0f);
}

BOOST_AUTO_TEST_CASE(the_z_loss_of_zero_logits_is_the_square_of_log_e) {
  const Tensor z = zeros({5, 4}).set_requires_grad(true);
  const Tensor loss = router_z_loss(z);
  const double log_e = std::log(4.0);
  BOOST_TEST(loss.item<double>() == log_e * log_e, boost::test_tools::tolerance(1e-6));
  backward(loss);  // 2 log(E) p / N
  BOOST_TEST(z.grad().to_vector<float>()[7] == 2 * log_e * 0.25 / 5, boost::test_tools::tolerance(1e-6));
  check_throws<ShapeError>([] { router_z_loss(zeros({4})); }, "router_z_loss: needs logits (N, E), got f32 [4] cpu:0");
}

// The router alone decides the losses, so their gradients reach its weight and the tokens only.
BOOST_AUTO_TEST_CASE(choices_and_gradients_of_the_losses_agree_with_pytorch) {
  struct Case {
    const char* name;
    RouterKind kind;
    int64_t k;
  };
  for (const Case& c :
       {Case{"moe_r1_top1", RouterKind::pre_softmax, 1}, Case{"moe_r1_top2", RouterKind::pre_softmax, 2},
        Case{"moe_r1_all", RouterKind::pre_softmax, 5}, Case{"moe_r2_top2", RouterKind::post_softmax, 2},
        Case{"moe_r2_top3_swiglu", RouterKind::post_softmax, 3}}) {
    BOOST_TEST_CONTEXT(c.name) {
      const Fixture f(c.name);
      const Tensor weight = f["state.router.weight"], x = f["input.x"];
      Router router({.width = 6, .num_experts = 5, .top_k = c.k, .kind = c.kind});
      router.load_state_dict({{"weight", weight}});
      for (const std::string loss : {"switch_loss", "z_loss"}) {
        const Tensor leaf = x.detach().set_requires_grad(true);
        router.parameters()[0].set_grad({});
        const Routing r = router(reshape(leaf, {-1, 6}));
        check_same_bits(r.indices, f["output.indices"]);
        check_near(r.weights, f["output.weights"], 1e-6, "weights");
        const Tensor counts = moe_plan(r.indices, 5).counts;
        backward(loss == "z_loss" ? router_z_loss(r.logits) : switch_loss(counts, r.probabilities));
        const tests::Tolerance tolerance{1e-5, 1e-7};  // with k = E the Switch loss is constant: zero but for round-off
        check_close(router.parameters()[0].grad(), to_array(f["grad_" + loss + ".state.router.weight"]), tolerance);
        check_close(leaf.grad(), to_array(f["grad_" + loss + ".input.x"]), tolerance);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(statistics_say_how_even_the_load_is) {
  const Tensor p = Tensor::from({0.7f, 0.2f, 0.1f, 0.0f, 0.4f, 0.395f, 0.2f, 0.005f}, {2, 4});
  const MoeStats even{Tensor::from({int64_t{1}, int64_t{1}, int64_t{1}, int64_t{1}}, {4}), p, 1};
  BOOST_TEST(even.max_violation() == 0.0);
  BOOST_TEST(even.coefficient_of_variation() == 0.0);
  BOOST_TEST(even.entropy() == 1.0, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(even.mean_top1() == 0.55, boost::test_tools::tolerance(1e-6));
  BOOST_TEST(even.near_tie_share() == 0.5);
  BOOST_TEST(even.near_tie_share(0.001) == 0.0);

  const MoeStats one_sided{Tensor::from({int64_t{0}, int64_t{4}, int64_t{0}, int64_t{0}}, {4}), p, 4};
  BOOST_TEST((one_sided.load() == std::vector<double>{0, 1, 0, 0}));
  BOOST_TEST(one_sided.max_violation() == 3.0);
  BOOST_TEST(one_sided.coefficient_of_variation() == std::sqrt(3.0), boost::test_tools::tolerance(1e-12));
  BOOST_TEST(one_sided.entropy() == 0.0);
  BOOST_TEST(one_sided.near_tie_share() == 0.0);  // all are chosen, there is no next one

  const MoeStats nothing{zeros({4}, DType::i64), zeros({0, 4}), 2};
  BOOST_TEST(nothing.max_violation() == 0.0);
  BOOST_TEST(nothing.entropy() == 1.0, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(nothing.mean_top1() == 0.0);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
