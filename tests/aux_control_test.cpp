// SPDX-License-Identifier: Apache-2.0
// Coefficients of auxiliary losses inside training: closed loops that hold their target, loss-free balancing, resuming.
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <set>

#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/cross_entropy.hpp"
#include "ops/index.hpp"
#include "ops/moe.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "tests/support/op_spec.hpp"
#include "tests/support/temporary_folder.hpp"
#include "tests/support/tiny_run.hpp"
#include "train/trainer.hpp"

namespace mahia::train {
namespace {

using nn::AuxLoss;
using tests::check_same_bits;
using tests::check_throws;

constexpr int64_t experts = 8, tokens = 512, steps = 1200, third = steps / 3;

Tensor random_ids(int64_t rows, int64_t time) {
  return to(rand({rows, time}, {random_key("tests", "ids"), 0, 0}) * 128.0, DType::i64);
}

// Tokens of eight kinds in noise, (N, D) with their kinds (N). The kinds are Zipf-distributed with an exponent that
// changes at each third of the run.
struct PlantedStream : BatchSource {
  Batch at(int64_t index) const override {
    constexpr double skew[] = {0.6, 1.6, 1.0};
    std::vector<double> up_to;
    for (int64_t e = 1; e <= experts; ++e)
      up_to.push_back((up_to.empty() ? 0 : up_to.back()) +
                      std::pow(static_cast<double>(e), -skew[std::min<int64_t>(2, index / third)]));
    const auto call = [&](const char* what) {
      return RandomCall{random_key("planted", what), 0, static_cast<uint64_t>(index)};
    };
    const Tensor u = rand({tokens}, call("kinds"));
    const std::vector<double> draws = u.to_vector<double>();
    std::vector<int64_t> kinds;
    for (const double draw : draws)
      kinds.push_back(std::upper_bound(up_to.begin(), up_to.end() - 1, draw * up_to.back()) - up_to.begin());
    const Tensor targets = Tensor::from(kinds, {tokens});
    const Tensor noise = randn({tokens, experts}, call("noise")) * 0.6;
    return {to(one_hot(targets, experts), DType::f32) + noise, targets};
  }
};

// What the run says of each step: its MaxVio, smoothed, and the coefficient it used.
struct Course {
  std::vector<double> ema, coefficient;
  nn::NamedTensors weights, loops;
};

// A router whose task is to send each kind of tokens to an expert of its own. The more it does, the more unevenly the
// tokens go; the Switch loss pulls the other way.
Course planted_run(const Schedule& balance, int64_t until = steps, const std::string& out = "") {
  manual_seed(0);
  nn::Router router({.width = experts, .num_experts = experts, .top_k = 1});
  const Trainer::Loss loss = [&](const Batch& batch) {
    const nn::Routing r = router(batch.tokens);
    const Tensor counts = moe_plan(r.indices, experts).counts;
    LossTerms terms{.loss = cross_entropy(r.logits, batch.targets) * 0.03, .losses = std::vector<nn::AuxLosses>(1)};
    terms.losses[0][AuxLoss::balance] = nn::switch_loss(counts, r.probabilities);
    terms.stats = {{.counts = counts, .probabilities = r.probabilities.detach()}};
    return terms;
  };
  Course course;
  TrainerOptions options{.steps = until, .max_grad_norm = 0, .out = out, .resume = !out.empty(), .log_every = 1};
  options.schedules.lr.peak = 10;
  options.schedules.aux.balance = balance;
  options.on_step = [&](const Progress& p) {
    const std::vector<double>& load = p.record->expert_load[0];
    const double m = *std::max_element(load.begin(), load.end()) * experts - 1;
    course.ema.push_back(course.ema.empty() ? m : 0.95 * course.ema.back() + 0.05 * m);
    course.coefficient.push_back(p.record->aux_coefficient);
  };
  Sgd sgd(router);
  Trainer(router, loss, sgd, std::make_shared<PlantedStream>(), options).run();
  course.weights = router.state_dict();
  if (!out.empty()) course.loops = read_run_state(find_checkpoint(out)).schedule_state;
  return course;
}

// The thirds of the run in whose last quarter the smoothed MaxVio stays within 20 % of the target.
int thirds_on_target(const Course& course, double target) {
  int held = 0;
  for (int64_t begin = 0; begin < steps; begin += third) {
    const auto from = course.ema.begin() + begin + third * 3 / 4, to = course.ema.begin() + begin + third;
    const auto [least, most] = std::minmax_element(from, to);
    BOOST_TEST_MESSAGE("  third at " << begin << ": MaxVio " << *least << " to " << *most << ", coefficient "
                                     << course.coefficient[static_cast<size_t>(begin + third - 1)]);
    held += *least >= 0.8 * target && *most <= 1.2 * target;
  }
  return held;
}

const Schedule pi_loop{
    .kind = ScheduleKind::pi,
    .peak = 0.01,
    .feedback = {.target = 0.5, .smoothing = 0.95, .gain = 1, .integral_gain = 0.05, .rate_limit = 0.1}};

// The language model with everything on: two losses with loops, one for each layer, and balanced routers.
struct BalancedRun {
  BalancedRun() : model(config()), optimizer(model) {}
  static nn::models::HyenaMoeLMConfig config() {
    manual_seed(7);
    nn::models::HyenaMoeLMConfig c = tests::tiny_config();
    c.routing.select_bias = true;
    c.capacity = {.train_factor = 1, .eval_factor = 1};
    c.losses = {AuxLoss::variance};
    return c;
  }
  static Schedules schedules() {
    Schedules s{.lr = {.peak = 0.01}};
    s.aux.balance = {
        .kind = ScheduleKind::sign, .peak = 0.01, .feedback = {.factor = 1.1, .per_layer = true}, .layers = {1, 1}};
    s.aux.variance = {.kind = ScheduleKind::dual_ascent,
                      .peak = 0.1,
                      .feedback = {.metric = nn::Imbalance::drop_rate, .target = 0.05}};
    s.aux.z_loss = {.kind = ScheduleKind::linear, .peak = 1e-3, .steps = 20};
    return s;
  }
  void train(int64_t until, const std::string& out) {
    const Tensor ids = random_ids(40, 32);
    const auto data = std::make_shared<TensorBatches>(ids, ids, 4, 1);
    Trainer(model, optimizer, data,
            {.steps = until, .micro_batches = 2, .schedules = schedules(), .out = out, .resume = true, .log_every = 1})
        .run();
  }
  nn::models::HyenaMoeLM model;
  AdamW optimizer;
};

void check_same_state(const nn::NamedTensors& a, const nn::NamedTensors& b) {
  BOOST_REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    BOOST_TEST(a[i].first == b[i].first);
    BOOST_TEST_CONTEXT(a[i].first) { check_same_bits(a[i].second, b[i].second); }
  }
}

BOOST_AUTO_TEST_SUITE(aux_control)

BOOST_AUTO_TEST_CASE(every_closed_loop_holds_its_target_while_the_stream_changes) {
  const Schedule sign{
      .kind = ScheduleKind::sign, .peak = 0.01, .feedback = {.target = 0.5, .dead_band = 0.03, .factor = 1.01}};
  const Schedule ascent{
      .kind = ScheduleKind::dual_ascent, .peak = 0.01, .feedback = {.target = 0.5, .gain = 0.008, .low = 0}};
  for (const Schedule& loop : {pi_loop, sign, ascent}) {
    BOOST_TEST_MESSAGE(name_of(loop.kind));
    BOOST_TEST(thirds_on_target(planted_run(loop), 0.5) == 3, name_of(loop.kind));
  }
}

BOOST_AUTO_TEST_CASE(a_planted_run_that_is_cut_has_the_same_bits_with_the_loops_state) {
  const tests::TemporaryFolder folder;
  const Course whole = planted_run(pi_loop, 60, folder / "whole");
  planted_run(pi_loop, 23, folder / "cut");
  const Course resumed = planted_run(pi_loop, 60, folder / "cut");
  std::set<std::string> names;
  for (const auto& [name, x] : whole.loops) names.insert(name);
  BOOST_TEST((names == std::set<std::string>{"aux.switch.value", "aux.switch.ema", "aux.switch.integral"}));
  check_same_state(resumed.weights, whole.weights);
  check_same_state(resumed.loops, whole.loops);
  BOOST_TEST(resumed.coefficient.back() == whole.coefficient.back());
  BOOST_TEST(whole.coefficient.back() > 2 * whole.coefficient.front());
}

BOOST_AUTO_TEST_CASE(a_balanced_language_model_resumes_to_the_same_bits) {
  const tests::TemporaryFolder folder;
  const auto trained = [&](const char* out, int64_t until) {
    BalancedRun run;
    run.train(until, folder / out);
    nn::NamedTensors state = run.model.state_dict();
    for (const auto& entry : run.optimizer.state_dict()) state.push_back(entry);
    return state;
  };
  trained("cut", 5);
  check_same_state(trained("cut", 12), trained("whole", 12));
  const auto loops = [&](const char* run) { return read_run_state(find_checkpoint(folder / run)).schedule_state; };
  check_same_state(loops("cut"), loops("whole"));
  BOOST_TEST(loops("whole").size() == 6u);
}

// Each step moves each bias by the rate, up or down as its expert got too few or too many pairs of all micro-batches.
BOOST_AUTO_TEST_CASE(routers_are_balanced_once_per_step_by_the_pairs_of_all_micro_batches) {
  BalancedRun run;
  const Tensor ids = random_ids(8, 32);
  const auto data = std::make_shared<TensorBatches>(ids, ids, 4, 1);
  std::vector<std::vector<int64_t>> counts(2, std::vector<int64_t>(4));
  int calls = 0;
  const Trainer::Loss loss = [&](const Batch& b) {
    LossTerms terms = loss_terms(run.model, b);
    for (size_t l = 0; l < 2; ++l) {
      const std::vector<int64_t> n = terms.stats[l].counts.to_vector<int64_t>();
      for (size_t e = 0; e < 4; ++e) counts[l][e] += n[e];
    }
    ++calls;
    return terms;
  };
  TrainerOptions options{.steps = 1, .micro_batches = 2, .balance_rate = 0.5};
  options.schedules.lr.peak = 0;
  Trainer(run.model, loss, run.optimizer, data, options).run();
  BOOST_TEST(calls == 2);
  int found = 0;
  for (const auto& [name, bias] : run.model.state_dict()) {
    if (!name.ends_with("select_bias")) continue;
    const std::vector<int64_t>& n = counts[static_cast<size_t>(found++)];
    const int64_t sum = n[0] + n[1] + n[2] + n[3];
    const std::vector<double> b = bias.to_vector<double>();
    for (size_t e = 0; e < 4; ++e) {
      const int64_t missing = sum - 4 * n[e];
      BOOST_TEST(b[e] == (missing > 0 ? 0.5 : missing < 0 ? -0.5 : 0.0), name << " " << e);
    }
  }
  BOOST_TEST(found == 2);
}

BOOST_AUTO_TEST_CASE(a_step_that_goes_wrong_moves_neither_biases_nor_loops) {
  const tests::TemporaryFolder folder;
  BalancedRun run;
  int calls = 0;
  const Trainer::Loss loss = [&](const Batch& b) {
    LossTerms terms = loss_terms(run.model, b);
    if (++calls >= 3) terms.loss = log(terms.loss - 1e6);
    return terms;
  };
  const Tensor ids = random_ids(8, 32);
  nn::NamedTensors before;
  TrainerOptions options{.steps = 9, .schedules = BalancedRun::schedules(), .out = folder / "run"};
  options.checkpoint_every = 2;
  options.on_step = [&](const Progress& p) {
    if (p.step != 2) return;
    for (const auto& [name, x] : run.model.state_dict()) before.emplace_back(name, clone(x));
  };
  Trainer trainer(run.model, loss, run.optimizer, std::make_shared<TensorBatches>(ids, ids, 4, 1), options);
  check_throws<ValueError>([&] { trainer.run(); }, "training stopped at step 3: the loss is nan");
  check_same_state(run.model.state_dict(), before);
}

BOOST_AUTO_TEST_CASE(a_loss_that_nobody_computes_or_measures_is_refused) {
  const auto refused = [](const Schedules& schedules, const nn::models::HyenaMoeLMConfig& config,
                          const std::string& text) {
    nn::models::HyenaMoeLM model(config);
    AdamW optimizer(model);
    const Tensor ids = random_ids(8, 32);
    Trainer trainer(model, optimizer, std::make_shared<TensorBatches>(ids, ids, 4, 1),
                    {.steps = 1, .schedules = schedules});
    check_throws<ValueError>([&] { trainer.run(); }, text);
  };
  Schedules schedules;
  schedules.aux.variance.peak = 1;
  refused(schedules, tests::tiny_config(), "the schedules weight the auxiliary loss `variance`, which the model does");
  schedules.aux = {.balance = {.kind = ScheduleKind::pi, .feedback = {.metric = nn::Imbalance::drop_rate}}};
  refused(schedules, tests::tiny_config(), "imbalance: the drop rate is known only where the experts have a capacity");
  nn::Router router({.width = 4, .num_experts = 4});
  Sgd sgd(router);
  struct NoData : BatchSource {
    Batch at(int64_t) const override { return {zeros({1}), {}}; }
  };
  Trainer trainer(router, [&](const Batch&) { return loss_terms(sum(router.parameters()[0])); }, sgd,
                  std::make_shared<NoData>(), {.steps = 1, .schedules = schedules});
  check_throws<ValueError>([&] { trainer.run(); }, "the schedules weight the auxiliary loss `switch`, which");
}

// Twice the factor is twice the share of the gradient: the router's of one layer, with the task's left out.
BOOST_AUTO_TEST_CASE(factors_of_layers_weight_each_layers_loss) {
  const auto router_gradients = [](const std::vector<double>& layers) {
    BalancedRun run;
    const Tensor ids = random_ids(4, 32);
    const Trainer::Loss loss = [&](const Batch& b) {
      LossTerms terms = loss_terms(run.model, b);
      terms.loss = terms.loss * 0.0;
      return terms;
    };
    TrainerOptions options{.steps = 1, .max_grad_norm = 0};
    options.schedules.aux = {.balance = {.peak = 0}, .variance = {.peak = 1, .layers = layers}};
    Trainer(run.model, loss, run.optimizer, std::make_shared<TensorBatches>(ids, ids, 4, 1), options).run();
    std::vector<double> norms;
    for (const auto& [name, parameter] : run.model.named_parameters()) {
      if (name.ends_with("router.weight")) norms.push_back(sum(parameter.grad() * parameter.grad()).item<double>());
    }
    return norms;
  };
  const std::vector<double> one = router_gradients({1, 1}), last = router_gradients({0, 2}),
                            none = router_gradients({});
  BOOST_REQUIRE((one.size() == 2u && one[0] > 0 && one[1] > 0));
  BOOST_TEST(last[1] == 4 * one[1], boost::test_tools::tolerance(1e-5));
  BOOST_TEST(none[0] == one[0], boost::test_tools::tolerance(1e-5));
}

BOOST_AUTO_TEST_CASE(no_constant_holds_the_target_in_every_third) {
  for (int i = 0; i <= 10; ++i) {
    const double constant = std::pow(10, -5 + 0.5 * i);
    BOOST_TEST_MESSAGE("constant " << constant);
    BOOST_TEST(thirds_on_target(planted_run({.peak = constant}), 0.5) < 3, "constant " << constant);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
