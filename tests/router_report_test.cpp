// SPDX-License-Identifier: Apache-2.0
// The audit of routers: which losses reach them, how much they pull, ties and dead experts.
#include "train/router_report.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/random.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/op_spec.hpp"
#include "tests/support/tiny_run.hpp"
#include "train/router_gradients.hpp"

namespace mahia::train {
namespace {

using nn::AuxLoss;
using tests::check_same_bits;
using tests::check_throws;
namespace tt = boost::test_tools;

Tensor random_ids(int64_t rows, int64_t time, uint16_t call = 0) {
  return to(rand({rows, time}, {random_key("tests", "audit"), call, 0}) * 128.0, DType::i64);
}

nn::models::HyenaMoeLMConfig plain_config(uint64_t seed = 7) {
  manual_seed(seed);
  nn::models::HyenaMoeLMConfig c = tests::tiny_config();
  c.dropout = 0;
  return c;
}

Schedules weighted() {
  Schedules s;
  s.aux.balance = {.peak = 0.02};
  s.aux.z_loss = {.peak = 1e-3, .layers = {1, 0.5}};
  return s;
}

std::vector<RouterReport> report_of(const nn::models::HyenaMoeLMConfig& c, const Schedules& schedules = weighted()) {
  const nn::models::HyenaMoeLM model(c);
  const Tensor ids = random_ids(4, 32), targets = random_ids(4, 32, 1);
  return router_report(model, {{ids, targets}}, StepState(schedules).advance(0));
}

// A layer of experts whose router has weights of the test's choice.
struct OneLayer : nn::Module {
  OneLayer(const nn::MoeConfig& c, const std::vector<float>& weight) : moe(add<nn::SparseMoETopK>("moe", c)) {
    const NoGrad no_grad;
    for (const auto& [name, x] : named_parameters()) {
      if (name == "moe.router.weight") copy_into(Tensor::from(weight, {c.num_experts, c.width}), x);
    }
  }
  LossTerms terms(const Batch& b) const {
    const nn::MoeOutput out = moe(b.tokens);
    return {.loss = sum(out.y * b.targets), .losses = {out.losses}, .stats = {out.stats}};
  }
  std::vector<RouterReport> report(const std::vector<Batch>& batches) const {
    return router_report(
        *this, [this](const Batch& b) { return terms(b); }, batches, StepState().advance(0));
  }
  nn::SparseMoETopK& moe;
};

BOOST_AUTO_TEST_SUITE(router_audit)

// Against one backward for each loss, with the coefficients as plain numbers.
BOOST_AUTO_TEST_CASE(gradients_at_the_routers_are_those_of_each_loss) {
  const nn::models::HyenaMoeLM model(plain_config());
  const Tensor ids = random_ids(4, 32), targets = random_ids(4, 32, 1);
  const auto report = router_report(model, {{ids, targets}}, StepState(weighted()).advance(0));
  BOOST_REQUIRE(report.size() == 2u);
  const auto norms = [&](double task, double balance, double z) {
    for (const Tensor& parameter : model.parameters()) parameter.set_grad({});
    const auto out = model.loss(ids, targets);
    Tensor total = out.loss * task + out.aux * (0.02 * balance);
    total = total + out.losses[0][AuxLoss::z_loss] * (0.5e-3 * z) + out.losses[1][AuxLoss::z_loss] * (0.25e-3 * z);
    backward(total);
    std::vector<double> found;
    for (const auto& [name, x] : model.named_parameters()) {
      if (name.ends_with("router.weight")) found.push_back(std::sqrt(sum(x.grad() * x.grad()).item<double>()));
    }
    return found;
  };
  const auto task = norms(1, 0, 0), balance = norms(0, 1, 0), z = norms(0, 0, 1), aux = norms(0, 1, 1);
  for (size_t l = 0; l < 2; ++l) {
    const RouterReport& r = report[l];
    BOOST_TEST(r.router == "layers." + std::to_string(l) + ".moe.router");
    BOOST_TEST((r.num_experts == 4 && r.top_k == 2 && r.tokens == 128 && r.remark.empty()));
    BOOST_REQUIRE(r.losses.size() == 3u);
    const std::array<std::pair<const char*, double>, 3> expected = {
        {{"task", task[l]}, {"switch", balance[l]}, {"z_loss", z[l]}}};
    for (size_t i = 0; i < 3; ++i) {
      BOOST_TEST_CONTEXT(expected[i].first) {
        BOOST_TEST(r.losses[i].name == expected[i].first);
        BOOST_TEST(r.losses[i].reaches);
        BOOST_TEST(r.losses[i].gradient == expected[i].second, tt::tolerance(1e-4));
        BOOST_TEST(r.losses[i].over_task.value() == expected[i].second / task[l], tt::tolerance(1e-4));
      }
    }
    BOOST_TEST(r.losses[1].coefficient == 0.02, tt::tolerance(1e-6));
    BOOST_TEST(r.losses[2].coefficient == (l == 0 ? 1e-3 : 0.5e-3), tt::tolerance(1e-6));
    BOOST_TEST(r.aux_to_task.value() == aux[l] / task[l], tt::tolerance(1e-4));
  }
}

BOOST_AUTO_TEST_CASE(the_task_does_not_reach_a_router_whose_single_weight_is_renormalised) {
  for (const uint64_t seed : {1, 2, 3}) {
    for (const nn::RouterKind kind :
         {nn::RouterKind::pre_softmax, nn::RouterKind::post_softmax, nn::RouterKind::sigmoid}) {
      nn::models::HyenaMoeLMConfig c = plain_config(seed);
      c.router = kind;
      c.top_k = 1;
      c.renormalize = true;
      const std::vector<RouterReport> blind = report_of(c);
      for (const RouterReport& r : blind) {
        BOOST_TEST_MESSAGE("blind: the task's gradient is " << r.losses[0].gradient);
        BOOST_TEST((!r.losses[0].reaches && !r.losses[0].over_task && !r.aux_to_task));
        BOOST_TEST((r.losses[1].reaches && !r.losses[1].over_task && r.losses[2].reaches));
        BOOST_TEST(r.remark == "with top 1 a renormalised weight is always 1");
      }
      BOOST_TEST(to_table(blind).find("task       NO ") != std::string::npos, to_table(blind));
      const auto json = nlohmann::json::parse(to_json(blind));
      BOOST_TEST(json["routers"][1]["losses"][0]["reaches"] == false);
      BOOST_TEST(json["routers"][1]["losses"][1]["over_task"].is_null());
    }
  }
}

BOOST_AUTO_TEST_CASE(the_task_reaches_the_other_routers) {
  for (const uint64_t seed : {1, 2, 3}) {
    for (const int64_t k : {1, 2}) {
      for (const nn::RouterKind kind :
           {nn::RouterKind::pre_softmax, nn::RouterKind::post_softmax, nn::RouterKind::sigmoid}) {
        nn::models::HyenaMoeLMConfig c = plain_config(seed);
        c.router = kind;
        c.top_k = k;
        c.capacity.train_factor = 1;
        if (k == 1 && kind == nn::RouterKind::post_softmax) continue;  // the chosen logit's softmax is 1
        for (const RouterReport& r : report_of(c)) {
          BOOST_TEST_MESSAGE("k = " << k << ": the task's gradient is " << r.losses[0].gradient);
          BOOST_TEST((r.losses[0].reaches && r.losses[1].reaches && r.remark.empty()));
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(what_teaches_nothing_is_named) {
  nn::models::HyenaMoeLMConfig c = plain_config();
  c.router = nn::RouterKind::hash;
  Schedules none;
  none.aux.balance = {.peak = 0};
  for (const RouterReport& r : report_of(c, none)) {
    BOOST_REQUIRE(r.losses.size() == 1u);
    BOOST_TEST((!r.losses[0].reaches && r.losses[0].gradient == 0 && r.near_ties == 0));
    BOOST_TEST(r.remark == "a hash of the tokens chooses, there is nothing to learn");
  }
  c = plain_config();
  c.experts = c.top_k = 1;
  for (const RouterReport& r : report_of(c)) {
    BOOST_TEST((!r.losses[0].reaches && !r.losses[1].reaches));
    BOOST_TEST(r.losses[2].reaches);  // the z-loss knows no other experts
    BOOST_TEST(r.remark == "there is only one expert");
  }
  const nn::models::HyenaMoeLM frozen(plain_config());
  for (const auto& [name, x] : frozen.named_parameters()) {
    Tensor weight = x;
    if (name == "layers.0.moe.router.weight") weight.set_requires_grad(false);
  }
  const Tensor ids = random_ids(4, 32);
  const auto report = router_report(frozen, {{ids, ids}}, StepState(weighted()).advance(0));
  BOOST_TEST((report[0].remark == "its weight is frozen" && report[1].remark.empty()));
  BOOST_TEST((!report[0].losses[1].reaches && report[1].losses[1].reaches));
}

// All experts of all tokens: f is even, and the Switch loss E sum f_e P_e is the constant 1. What is left is rounding.
BOOST_AUTO_TEST_CASE(rounding_does_not_count_as_reaching) {
  double largest = 0;
  for (const int64_t experts : {3, 5, 6, 7}) {
    nn::models::HyenaMoeLMConfig c = plain_config();
    c.experts = c.top_k = experts;
    for (const RouterReport& r : report_of(c)) {
      BOOST_TEST((r.losses[0].reaches && !r.losses[1].reaches && r.losses[2].reaches));
      largest = std::max(largest, r.losses[1].gradient);
    }
  }
  BOOST_TEST(largest > 0);
  BOOST_TEST_MESSAGE("the largest gradient by rounding is " << largest);
}

// The last layer's router can be pulled by its own layer's loss only.
BOOST_AUTO_TEST_CASE(a_layer_whose_factor_is_0_is_not_reached) {
  Schedules s;
  s.aux.balance = {.peak = 0.02, .layers = {1, 0}};
  const auto report = report_of(plain_config(), s);
  BOOST_TEST((report[0].losses[1].reaches && report[0].losses[1].coefficient > 0));
  BOOST_TEST((!report[1].losses[1].reaches && report[1].losses[1].gradient == 0));
  BOOST_TEST((report[1].losses[1].coefficient == 0 && report[1].losses[1].over_task.value() == 0));
}

// Tokens (1, 0) score the experts 5, 5, 0, 0 and tokens (0, 1) score them 0, 0, 5, -5: with k = 1 the first kind is
// tied, and the experts 1 (ties go to 0) and 3 get nothing.
BOOST_AUTO_TEST_CASE(planted_ties_and_dead_experts_are_found) {
  const OneLayer layer({.width = 2, .hidden = 4, .num_experts = 4, .top_k = 1}, {5, 0, 5, 0, 0, 5, 0, -5});
  const auto batch = [](const std::vector<float>& x) -> Batch {
    const Shape shape = {1, std::ssize(x) / 2, 2};
    return {Tensor::from(x, shape), ones(shape)};
  };
  const Batch three = batch({1, 0, 0, 1, 0, 1}), five = batch({1, 0, 1, 0, 0, 1, 0, 1, 0, 1});
  const auto report = layer.report({three, five});
  BOOST_REQUIRE(report.size() == 1u);
  const RouterReport& r = report[0];
  BOOST_TEST((r.router == "moe.router" && r.tokens == 8));
  BOOST_TEST((r.pairs == std::vector<int64_t>{3, 0, 5, 0} && r.dead == std::vector<int64_t>{1, 3}));
  BOOST_TEST(r.near_ties == 3.0 / 8, tt::tolerance(1e-12));
  const double tied = std::exp(5) / (2 * std::exp(5) + 2), sure = std::exp(5) / (std::exp(5) + 2 + std::exp(-5));
  BOOST_TEST(r.mean_top1 == (3 * tied + 5 * sure) / 8, tt::tolerance(1e-6));
  const std::string table = to_table(report);
  BOOST_TEST(table.find("near ties 37.50 % of the tokens") != std::string::npos, table);
  BOOST_TEST(table.find("dead experts: 2 of 4: 1, 3\n") != std::string::npos, table);
  const auto json = nlohmann::json::parse(to_json(report))["routers"][0];
  BOOST_TEST((json["dead"] == std::vector<int>{1, 3} && json["near_ties"] == 0.375 && json["experts"] == 4));
}

BOOST_AUTO_TEST_CASE(a_dead_expert_of_one_layer_is_found_there) {
  nn::models::HyenaMoeLMConfig c = plain_config();
  c.routing.select_bias = true;
  const nn::models::HyenaMoeLM model(c);
  for (const auto& [name, x] : model.named_buffers()) {
    const NoGrad no_grad;
    if (name == "layers.1.moe.router.select_bias") copy_into(Tensor::from(std::vector<float>{0, 0, -9, 0}, {4}), x);
  }
  const Tensor ids = random_ids(4, 32);
  const auto report = router_report(model, {{ids, ids}}, StepState(weighted()).advance(0));
  BOOST_TEST((report[0].dead.empty() && report[1].dead == std::vector<int64_t>{2}));
}

// Without a capacity the task's mean over two batches is that of one batch of all sequences.
BOOST_AUTO_TEST_CASE(gradients_are_those_of_the_mean_over_the_batches) {
  const nn::models::HyenaMoeLM model(plain_config());
  const Tensor ids = random_ids(4, 32);
  const Tensor first = contiguous(narrow(ids, 0, 0, 2)), second = contiguous(narrow(ids, 0, 2, 2));
  const StepState state(weighted());
  const auto parts = router_report(model, {{first, first}, {second, second}}, state);
  const auto whole = router_report(model, {{ids, ids}}, state);
  for (size_t l = 0; l < 2; ++l) {
    BOOST_TEST(parts[l].losses[0].gradient == whole[l].losses[0].gradient, tt::tolerance(1e-4));
    BOOST_TEST((parts[l].pairs == whole[l].pairs && parts[l].tokens == 128));
    BOOST_TEST(parts[l].near_ties == whole[l].near_ties, tt::tolerance(1e-9));
    BOOST_TEST(parts[l].mean_top1 == whole[l].mean_top1, tt::tolerance(1e-6));
  }
}

// Dropout, jitter and noise too: both reports see the same random numbers, and so does what comes after them.
BOOST_AUTO_TEST_CASE(an_audit_changes_nothing) {
  nn::models::HyenaMoeLMConfig c = plain_config();
  c.dropout = 0.1;
  c.routing.jitter = 0.05;
  c.routing.noisy = true;
  const nn::models::HyenaMoeLM model(c);
  const Tensor ids = random_ids(4, 32);
  const StepState state(weighted());
  const RandomCounts before = random_counts();
  const Tensor untouched = model.loss(ids, ids).loss.detach();
  set_random_counts(before);
  nn::NamedTensors weights;
  for (const auto& [name, x] : model.state_dict()) weights.emplace_back(name, clone(x));
  const std::string once = to_json(router_report(model, {{ids, ids}}, state));
  BOOST_TEST(to_json(router_report(model, {{ids, ids}}, state)) == once);
  check_same_bits(model.loss(ids, ids).loss.detach(), untouched);
  const nn::NamedTensors after = model.state_dict();
  for (size_t i = 0; i < weights.size(); ++i) check_same_bits(after[i].second, weights[i].second);
  for (const Tensor& parameter : model.parameters()) BOOST_TEST(!parameter.grad().defined());
  BOOST_TEST(model.training());
}

BOOST_AUTO_TEST_CASE(what_cannot_be_audited_is_refused) {
  const nn::models::HyenaMoeLM model(plain_config());
  const Tensor ids = random_ids(2, 32);
  const StepState state(weighted());
  check_throws<ValueError>([&] { router_report(model, {}, state); }, "router_report: needs a batch to look at");
  const Trainer::Loss silent = [&](const Batch& b) { return loss_terms(model.loss(b.tokens, b.targets).loss); };
  check_throws<ValueError>(
      [&] {
        router_report(model, silent, {{ids, ids}}, state);
      },
      "the model has 2 routers, and its loss tells of 0 layers");
  nn::models::HyenaMoeLMConfig c = plain_config();
  c.layers = 0;
  BOOST_TEST(router_report(nn::models::HyenaMoeLM(c), {{ids, ids}}, state).empty());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
