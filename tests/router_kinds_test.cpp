// SPDX-License-Identifier: Apache-2.0
// Sigmoid and Sinkhorn routers, groups, noise, jitter and the selection bias.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <numeric>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "nn/models/hyena_moe_lm.hpp"
#include "ops/binary.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "ops/softmax.hpp"
#include "tests/support/numeric_gradient.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::nn {
namespace {

using tests::Array;
using tests::check_gradients;
using tests::check_same_bits;
using tests::check_throws;
using tests::to_array;

constexpr int64_t width = 12, experts = 8;

Tensor random(const Shape& shape, uint16_t call, DType dtype = DType::f32) {
  return randn(shape, {random_key("tests", "router_kinds"), call}, dtype);
}

RouterConfig config(RouterKind kind, int64_t k, RouterOptions options = {}) {
  return {.width = width, .num_experts = experts, .top_k = k, .kind = kind, .options = options, .causal = false};
}

void set(const Router& router, const std::string& name, const Tensor& value) {
  const NoGrad no_grad;
  for (const auto& [each, tensor] : router.state_dict()) {
    if (each == name) copy_into(value, tensor);
  }
}

// A router whose logits of token ones(1, 1) are the given numbers.
Routing routed(RouterConfig c, const std::vector<float>& logits, const std::vector<float>& bias = {}) {
  c.width = 1;
  c.num_experts = static_cast<int64_t>(logits.size());
  const Router router(c);
  set(router, "weight", Tensor::from(logits, {c.num_experts, 1}));
  if (!bias.empty()) set(router, "select_bias", Tensor::from(bias, {c.num_experts}));
  const NoGrad no_grad;
  return router(ones({1, 1}));
}

std::vector<int64_t> chosen(const Routing& r) { return r.indices.to_vector<int64_t>(); }
float logistic(float z) { return 1 / (1 + std::exp(-z)); }

float max_violation(const Routing& r) {
  const std::vector<int64_t> n = moe_plan(r.indices, r.logits.size(1)).counts.to_vector<int64_t>();
  const auto pairs = static_cast<float>(std::accumulate(n.begin(), n.end(), int64_t{0}));
  return static_cast<float>(*std::ranges::max_element(n)) * static_cast<float>(n.size()) / pairs - 1;
}

BOOST_AUTO_TEST_SUITE(router_kinds)

BOOST_AUTO_TEST_CASE(sigmoid_weights_and_choices_equal_plain_loops) {
  for (const int64_t k : {int64_t{1}, int64_t{3}, experts}) {
    Router router(config(RouterKind::sigmoid, k, {.select_bias = true}));
    router.to(DType::f64, {});
    const Tensor bias = random({experts}, 0, DType::f64) * 0.3, x = random({50, width}, 1, DType::f64);
    set(router, "select_bias", bias);
    const Routing r = router(x);
    const Array w = to_array(router.parameters()[0]), rows = to_array(x), b = to_array(bias);
    const Array indices = to_array(r.indices), weights = to_array(r.weights);
    for (int64_t t = 0; t < 50; ++t) {
      std::vector<double> s(experts);
      for (int64_t e = 0; e < experts; ++e) {
        double z = 0;
        for (int64_t d = 0; d < width; ++d) z += w[e * width + d] * rows[t * width + d];
        s[static_cast<size_t>(e)] = 1 / (1 + std::exp(-z));
      }
      std::vector<int64_t> order(experts);
      std::iota(order.begin(), order.end(), int64_t{0});
      std::ranges::stable_sort(order, [&](int64_t i, int64_t j) {
        return s[static_cast<size_t>(i)] + b[i] > s[static_cast<size_t>(j)] + b[j];
      });
      double total = 0;
      for (int64_t j = 0; j < k; ++j) total += s[static_cast<size_t>(order[static_cast<size_t>(j)])];
      for (int64_t j = 0; j < k; ++j) {
        const auto e = static_cast<size_t>(order[static_cast<size_t>(j)]);
        BOOST_TEST(indices[t * k + j] == static_cast<double>(e));
        BOOST_TEST(std::abs(weights[t * k + j] - s[e] / (k > 1 ? total : 1)) < 1e-12);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(the_selection_bias_chooses_and_is_never_in_a_weight) {
  const std::vector<float> z = {2, 1, 0, -1}, bias = {-5, 0, 0, 5};
  const float s1 = logistic(1), s3 = logistic(-1);
  const Routing sigmoid = routed(config(RouterKind::sigmoid, 2, {.select_bias = true}), z, bias);
  BOOST_TEST((chosen(sigmoid) == std::vector<int64_t>{3, 1}));
  BOOST_TEST(sigmoid.weights.to_vector<float>()[0] == s3 / (s1 + s3), boost::test_tools::tolerance(1e-6f));
  const float e1 = std::exp(1.0f), e3 = std::exp(-1.0f);
  for (const RouterKind kind : {RouterKind::pre_softmax, RouterKind::post_softmax}) {
    const Routing r = routed(config(kind, 2, {.select_bias = true}), z, bias);
    BOOST_TEST((chosen(r) == std::vector<int64_t>{3, 1}));
    BOOST_TEST(r.weights.to_vector<float>()[0] == e3 / (e1 + e3), boost::test_tools::tolerance(1e-6f));
  }
  check_same_bits(sigmoid.probabilities, softmax(sigmoid.logits));  // what losses see is free of it
}

BOOST_AUTO_TEST_CASE(experts_outside_the_kept_groups_are_never_chosen) {
  // All biased scores are negative, so that zeros in place of -infinity would win.
  const std::vector<float> z = {3, 0, 2, 2, -1, -1, -2, -2}, bias(8, -9.0f);
  RouterOptions o{.select_bias = true, .groups = 4, .kept_groups = 1};
  BOOST_TEST((chosen(routed(config(RouterKind::sigmoid, 2, o), z, bias)) == std::vector<int64_t>{2, 3}));
  BOOST_TEST((chosen(routed(config(RouterKind::pre_softmax, 2, o), z, bias)) == std::vector<int64_t>{0, 1}));
  BOOST_TEST((chosen(routed(config(RouterKind::post_softmax, 2, o), z, bias)) == std::vector<int64_t>{0, 1}));
  o.kept_groups = 2;
  BOOST_TEST((chosen(routed(config(RouterKind::sigmoid, 3, o), z, bias)) == std::vector<int64_t>{0, 2, 3}));
  o = {.groups = 8, .kept_groups = 3};  // groups of one
  BOOST_TEST((chosen(routed(config(RouterKind::sigmoid, 3, o), z)) == std::vector<int64_t>{0, 2, 3}));
}

BOOST_AUTO_TEST_CASE(gradients_of_steered_routers_equal_central_differences) {
  const RouterOptions o{.select_bias = true, .groups = 4, .kept_groups = 2, .jitter = 0.1, .noisy = true};
  for (const RouterKind kind :
       {RouterKind::pre_softmax, RouterKind::post_softmax, RouterKind::sigmoid, RouterKind::sinkhorn}) {
    Router router(config(kind, 3, o));
    router.to(DType::f64, {});
    const Tensor x = random({6, width}, 2, DType::f64), dg = random({6, 3}, 3, DType::f64);
    const auto loss = [&] {
      set_random_counts({.step = random_step(), .calls = {}});  // the same noise each time
      return sum(router(x).weights * dg);
    };
    backward(loss());
    const NoGrad no_grad;
    check_gradients(router.named_parameters(), loss);
  }
}

BOOST_AUTO_TEST_CASE(noise_and_jitter_are_for_training_and_repeat_with_the_step) {
  const Tensor x = random({40, width}, 4);
  const NoGrad no_grad;
  Router plain(config(RouterKind::pre_softmax, 2));
  const Tensor expected = plain(x).logits;
  for (const RouterOptions& o : {RouterOptions{.jitter = 0.2}, RouterOptions{.noisy = true}}) {
    Router router(config(RouterKind::pre_softmax, 2, o));
    const auto logits = [&] {
      set_random_counts({.step = random_step(), .calls = {}});
      return router(x).logits;
    };
    const Tensor first = logits();
    check_same_bits(logits(), first);
    BOOST_TEST(amax(abs(router(x).logits - first)).item<float>() > 1e-3f);  // another call
    BOOST_TEST(amax(abs(first - expected)).item<float>() > 1e-3f);
    router.eval();
    check_same_bits(router(x).logits, expected);
  }
  // noise_weight is zero at first: the noise is normal with deviation softplus(0) = ln 2.
  Router noisy(config(RouterKind::pre_softmax, 2, {.noisy = true}));
  const Tensor noise = noisy(zeros({2000, width})).logits;
  BOOST_TEST(std::abs(mean(noise).item<float>()) < 0.03f);
  BOOST_TEST(std::abs(std::sqrt(var(noise).item<float>()) - std::log(2.0f)) < 0.02f);
}

BOOST_AUTO_TEST_CASE(sinkhorn_evens_the_load_while_training_alone) {
  const Tensor x = random({400, width}, 5) + 0.5;  // a skew that all tokens share
  Router plain(config(RouterKind::pre_softmax, 2)), even(config(RouterKind::sinkhorn, 2));
  even.load_state_dict(plain.state_dict());
  const NoGrad no_grad;
  const float skewed = max_violation(plain(x)), evened = max_violation(even(x));
  BOOST_TEST(skewed > 0.5f);
  BOOST_TEST(evened < 0.5f * skewed);
  // The weights are the softmax's on the chosen experts.
  const Routing r = even(x);
  const Array p = to_array(r.probabilities), indices = to_array(r.indices), g = to_array(r.weights);
  for (int64_t t = 0; t < 400; ++t) {
    const double a = p[t * experts + static_cast<int64_t>(indices[2 * t])];
    const double b = p[t * experts + static_cast<int64_t>(indices[2 * t + 1])];
    BOOST_TEST(std::abs(g[2 * t] - a / (a + b)) < 1e-6);
  }
  even.eval();
  check_same_bits(even(x).indices, plain(x).indices);
  check_same_bits(even(x).weights, plain(x).weights);
}

BOOST_AUTO_TEST_CASE(the_bias_moves_by_the_rate_towards_experts_with_too_few_pairs) {
  const Router router(config(RouterKind::sigmoid, 2, {.select_bias = true}));
  router.update_select_bias(Tensor::from(
      {int64_t{9}, int64_t{0}, int64_t{4}, int64_t{3}, int64_t{4}, int64_t{4}, int64_t{4}, int64_t{4}}, {8}));
  const std::vector<float> u = router.named_buffers()[0].second.to_vector<float>(), r = {-1, 1, 0, 1, 0, 0, 0, 0};
  for (size_t e = 0; e < 8; ++e) BOOST_TEST(u[e] == r[e] * 1e-3f);
  BOOST_TEST(router.named_buffers()[0].first == "select_bias");
  BOOST_TEST(router.parameters().size() == 1u);
}

BOOST_AUTO_TEST_CASE(loss_free_balancing_evens_a_skewed_load) {
  const Tensor x = random({500, width}, 6) + 0.5;
  const NoGrad no_grad;
  const Router router(config(RouterKind::sigmoid, 2, {.select_bias = true}));
  const float before = max_violation(router(x));
  for (int i = 0; i < 300; ++i) {
    router.update_select_bias(moe_plan(router(x).indices, experts).counts, 5e-3);
  }
  BOOST_TEST(before > 0.5f);
  BOOST_TEST(max_violation(router(x)) < 0.15f);
}

BOOST_AUTO_TEST_CASE(a_language_model_balances_each_layer_by_its_own_counts) {
  models::HyenaMoeLMConfig c{.vocab = 20, .width = 16, .layers = 2, .l_max = 8, .experts = 4, .hidden = 16};
  c.routing.select_bias = true;
  const models::HyenaMoeLM model(c);
  const Tensor low = Tensor::from({int64_t{0}, int64_t{1}, int64_t{2}, int64_t{1}}, {4});
  model.update_select_bias({low, ones({4}, DType::i64)}, 0.25);
  const NamedTensors biases = model.named_buffers();
  const auto bias = [&](const std::string& name) {
    const auto found = std::ranges::find(biases, name, [](const auto& each) { return each.first; });
    BOOST_REQUIRE(found != biases.end());
    return found->second.to_vector<float>();
  };
  BOOST_TEST((bias("layers.0.moe.router.select_bias") == std::vector<float>{0.25f, 0, -0.25f, 0}));
  BOOST_TEST((bias("layers.1.moe.router.select_bias") == std::vector<float>{0, 0, 0, 0}));
  check_throws<ValueError>([&] { model.update_select_bias({low}); },
                           "HyenaMoeLM: update_select_bias needs the counts of 2 layers, got 1");
}

BOOST_AUTO_TEST_CASE(options_that_make_no_sense_are_refused) {
  const auto make = [](RouterConfig c) { const Router router(c); };
  RouterConfig c = config(RouterKind::sinkhorn, 2);
  c.causal = true;
  check_throws<ValueError>([&] { make(c); }, "Router: sinkhorn is refused in causal models");
  models::HyenaMoeLMConfig lm{.vocab = 20, .width = 16, .layers = 1, .l_max = 8, .experts = 4, .hidden = 16};
  lm.router = RouterKind::sinkhorn;
  check_throws<ValueError>([&] { models::HyenaMoeLM model(lm); }, "Router: sinkhorn is refused in causal models");
  const auto refused = [&](const RouterOptions& o, const std::string& text) {
    check_throws<ValueError>([&] { make(config(RouterKind::sigmoid, 3, o)); }, text);
  };
  refused({.groups = 3}, "Router: 8 experts do not stand in 3 equal groups");
  refused({.groups = 0}, "Router: 8 experts do not stand in 0 equal groups");
  refused({.groups = 4, .kept_groups = 5}, "Router: kept_groups is 5, must be in [1, 4]");
  refused({.groups = 4, .kept_groups = 1}, "Router: top_k 3 exceeds the 2 experts of 1 kept groups");
  refused({.jitter = 1}, "Router: jitter is 1, must be in [0, 1)");
  const Router plain(config(RouterKind::sigmoid, 2)), biased(config(RouterKind::sigmoid, 2, {.select_bias = true}));
  check_throws<ValueError>([&] { plain.update_select_bias(ones({8})); },
                           "Router: update_select_bias needs the option select_bias");
  check_throws<ShapeError>(
      [&] {
        biased.update_select_bias(ones({1, 8}));
      },
      "Router: update_select_bias needs counts (8), got f32 [1, 8] cpu:0");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
