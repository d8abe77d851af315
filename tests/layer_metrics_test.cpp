// SPDX-License-Identifier: Apache-2.0
// What the metrics say of the layers of experts, and the pictures of it.
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "autograd/backward.hpp"
#include "core/factory.hpp"
#include "core/random.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/reduce.hpp"
#include "tests/support/op_spec.hpp"
#include "tests/support/temporary_folder.hpp"
#include "tests/support/tiny_run.hpp"
#include "train/layer_record.hpp"
#include "train/router_gradients.hpp"
#include "train/run_charts.hpp"

namespace mahia::train {
namespace {

using nn::AuxLoss;
using tests::check_same_bits;
namespace tt = boost::test_tools;

Tensor random_ids(int64_t rows, int64_t time) {
  return to(rand({rows, time}, {random_key("tests", "ids"), 0, 0}) * 128.0, DType::i64);
}

nn::models::HyenaMoeLMConfig limited_config() {
  manual_seed(7);
  nn::models::HyenaMoeLMConfig c = tests::tiny_config();
  c.capacity = {.train_factor = 0.75, .eval_factor = 0.75};
  c.dropout = 0;
  return c;
}

Schedules weighted() {
  Schedules s{.lr = {.peak = 0.01}};
  s.aux.balance = {.kind = ScheduleKind::pi, .peak = 0.02, .feedback = {.target = 0.2, .gain = 0.5}};
  s.aux.z_loss = {.peak = 1e-3};
  return s;
}

// A run of a tiny model; its weights, and its metrics as they were read back.
std::pair<nn::NamedTensors, Metrics> run_to(const std::string& out, int64_t steps, bool router_gradients) {
  nn::models::HyenaMoeLM model(limited_config());
  AdamW optimizer(model);
  const Tensor ids = random_ids(12, 32);
  TrainerOptions options{.steps = steps, .micro_batches = 3, .schedules = weighted(), .out = out};
  options.router_gradients = router_gradients;
  options.log_every = 2;
  Trainer(model, optimizer, std::make_shared<TensorBatches>(ids, ids, 4, 1), options).run();
  return {model.state_dict(), read_metrics(out + "/metrics.jsonl")};
}

BOOST_AUTO_TEST_SUITE(layer_metrics)

BOOST_AUTO_TEST_CASE(a_log_line_tells_of_each_layer_and_each_loss) {
  const tests::TemporaryFolder folder;
  const Metrics metrics = run_to(folder / "run", 6, true).second;
  BOOST_REQUIRE(metrics.steps.size() == 4u);  // 1, 2, 4, 6
  for (const StepRecord& r : metrics.steps) {
    BOOST_REQUIRE((r.layers.size() == 2u && r.aux.size() == 2u && r.expert_load.size() == 2u));
    for (size_t l = 0; l < 2; ++l) {
      const LayerRecord& layer = r.layers[l];
      const std::vector<int64_t>& n = layer.pairs;
      BOOST_TEST(n[0] + n[1] + n[2] + n[3] == 3 * 4 * 32 * 2);  // micro-batches, sequences, tokens, choices
      double squares = 0, entropy = 0;
      for (size_t e = 0; e < 4; ++e) {
        const double f = static_cast<double>(n[e]) / 768;
        BOOST_TEST(r.expert_load[l][e] == f, tt::tolerance(1e-12));
        squares += (4 * f - 1) * (4 * f - 1) / 4;
        entropy -= f > 0 ? f * std::log(f) / std::log(4.0) : 0;
      }
      BOOST_TEST(layer.max_violation == static_cast<double>(*std::ranges::max_element(n)) / 192 - 1,
                 tt::tolerance(1e-9));
      BOOST_TEST(layer.variation == std::sqrt(squares), tt::tolerance(1e-9));
      BOOST_TEST(layer.entropy == entropy, tt::tolerance(1e-9));
      BOOST_TEST(layer.dead_experts == 0);
      BOOST_TEST((layer.mean_top1 >= 0.25 && layer.mean_top1 <= 1 && layer.near_ties >= 0 && layer.near_ties <= 1));
      BOOST_TEST((layer.drop_rate.has_value() && *layer.drop_rate >= 0.25 && *layer.drop_rate < 1));
      BOOST_TEST((layer.router_grad_norm.value_or(0) > 0 && layer.aux_to_task.value_or(0) > 0));
    }
    BOOST_TEST((r.aux[0].name == "switch" && r.aux[0].loss >= 0.9 && r.aux[0].measured.has_value()));
    BOOST_TEST((r.aux[1].name == "z_loss" && r.aux[1].coefficient == static_cast<double>(1e-3f)));
    BOOST_TEST(!r.aux[1].measured.has_value());
    BOOST_TEST(r.aux_coefficient == r.aux[0].coefficient);
  }
  BOOST_TEST(metrics.steps[0].aux_coefficient == static_cast<double>(0.02f));
}

BOOST_AUTO_TEST_CASE(a_log_line_tells_what_became_of_pairs_without_room) {
  const tests::TemporaryFolder folder;
  nn::models::HyenaMoeLMConfig c = limited_config();
  c.capacity.train_factor = 1;
  c.capacity.overflow = nn::Overflow::reroute;
  nn::models::HyenaMoeLM model(c);
  AdamW optimizer(model);
  const Tensor ids = random_ids(4, 32);
  TrainerOptions options{.steps = 1, .out = folder / "run", .log_every = 1};
  std::vector<nn::MoeStats> stats;
  const Trainer::Loss loss = [&](const Batch& b) {
    LossTerms terms = loss_terms(model, b);
    stats = terms.stats;
    return terms;
  };
  Trainer(model, loss, optimizer, std::make_shared<TensorBatches>(ids, ids, 4, 1), options).run();
  const std::vector<LayerRecord> layers = read_metrics(folder / "run/metrics.jsonl").steps.at(0).layers;
  int64_t hops = 0;
  for (size_t l = 0; l < 2; ++l) {
    const std::vector<int64_t> rounds = stats[l].fates.hops.to_vector<int64_t>();
    const auto moved = static_cast<double>(std::ranges::count_if(rounds, [](int64_t h) { return h > 0; }));
    BOOST_TEST(layers[l].rerouted.value() == moved / 256, tt::tolerance(1e-12));
    BOOST_TEST(layers[l].longest_hop.value() == *std::ranges::max_element(rounds));
    hops += *layers[l].longest_hop;
    double served = 0;
    for (const int64_t n : stats[l].kept.to_vector<int64_t>()) served += static_cast<double>(n);
    BOOST_TEST(layers[l].capacity_use.value() == served / (4 * 64), tt::tolerance(1e-12));  // 2 128 / 4
    BOOST_TEST(layers[l].drop_rate.value() == 1 - served / 256, tt::tolerance(1e-12));
  }
  BOOST_TEST(hops > 0);
}

BOOST_AUTO_TEST_CASE(measuring_the_routers_gradients_changes_nothing) {
  const tests::TemporaryFolder folder;
  const auto with = run_to(folder / "with", 5, true).first, without = run_to(folder / "without", 5, false).first;
  for (size_t i = 0; i < with.size(); ++i) {
    BOOST_TEST_CONTEXT(with[i].first) { check_same_bits(with[i].second, without[i].second); }
  }
}

// Against one backward of everything, with the coefficients as plain numbers.
BOOST_AUTO_TEST_CASE(the_routers_gradients_are_those_of_their_parts) {
  nn::models::HyenaMoeLM model(limited_config());
  const Tensor ids = random_ids(4, 32);
  const Trainer::Loss loss = [&](const Batch& b) { return loss_terms(model, b); };
  const StepState state(weighted());
  const auto found = router_gradients(model, loss, {ids, ids}, state);
  BOOST_REQUIRE(found.size() == 2u);
  const auto gradients = [&](double task, double aux) {
    for (const Tensor& parameter : model.parameters()) parameter.set_grad({});
    const auto out = model.loss(ids, ids);
    Tensor total = out.loss * task + out.aux * (0.02 * aux);
    for (const auto& layer : out.losses) total = total + layer[AuxLoss::z_loss] * (0.5e-3 * aux);
    backward(total);
    std::vector<double> norms;
    for (const auto& [name, x] : model.named_parameters()) {
      if (name.ends_with("router.weight")) norms.push_back(std::sqrt(sum(x.grad() * x.grad()).item<double>()));
    }
    return norms;
  };
  StepState started(weighted());
  const auto again = router_gradients(model, loss, {ids, ids}, started.advance(0));
  const auto all = gradients(1, 1), task = gradients(1, 0), aux = gradients(0, 1);
  for (size_t l = 0; l < 2; ++l) {
    BOOST_TEST(again[l].all == all[l], tt::tolerance(1e-4));
    BOOST_TEST(again[l].task == task[l], tt::tolerance(1e-4));
    BOOST_TEST(again[l].aux == aux[l], tt::tolerance(1e-4));
    BOOST_TEST(found[l].aux < again[l].aux);  // before the first step the z-loss's coefficient is 0
  }
}

BOOST_AUTO_TEST_CASE(an_expert_is_dead_when_a_window_of_lines_gave_it_nothing) {
  DeadExperts dead;
  const auto note = [&](std::vector<int64_t> pairs) {
    std::vector<LayerRecord> layers(1);
    layers[0].pairs = std::move(pairs);
    dead.note(layers);
    return layers[0].dead_experts;
  };
  BOOST_TEST(note({4, 0, 0}) == 2);
  BOOST_TEST(note({0, 0, 4}) == 1);
  for (int line = 0; line < 8; ++line) BOOST_TEST(note({4, 0, 0}) == 1);
  BOOST_TEST(note({4, 0, 0}) == 1);  // the second line is still in the window of ten
  BOOST_TEST(note({4, 0, 0}) == 2);
  BOOST_TEST(note({0, 1}) == 1);  // another model
}

BOOST_AUTO_TEST_CASE(a_run_is_drawn_with_what_its_metrics_have) {
  const auto names = [](const Metrics& metrics, const RunConfig& config = {}) {
    std::map<std::string, std::string> pictures;
    for (const auto& [name, svg] : run_charts(config, metrics)) {
      pictures[name] = svg;
      BOOST_TEST(svg.find("nan") == svg.npos, name);
    }
    return pictures;
  };
  BOOST_TEST(names({}).size() == 2u);  // loss and load
  Metrics metrics;
  for (int64_t step : {1, 2}) {
    StepRecord r{.step = step, .expert_load = {{0.5, 0.5}, {1, 0}}};
    r.layers = {{.pairs = {2, 2}}, {.pairs = {4, 0}, .max_violation = 1}};
    r.aux = {{"switch", 1, 0.01, 0.4}, {"z_loss", 1, 0, {}}};
    metrics.steps.push_back(r);
  }
  RunConfig config;
  config.schedules.aux.balance = {.kind = ScheduleKind::pi, .feedback = {.target = 0.375}};
  auto pictures = names(metrics, config);
  BOOST_TEST(pictures.size() == 4u);
  for (const char* words : {"layer 0", "layer 1", "target of switch 0.375", "smoothed for switch"})
    BOOST_TEST(pictures["max_violation.svg"].find(words) != std::string::npos, words);
  BOOST_TEST(pictures["coefficients.svg"].find("z_loss") != std::string::npos);
  metrics.steps[1].layers[0].drop_rate = 0.25;
  metrics.steps[1].layers[1].aux_to_task = 0.5;
  BOOST_TEST(names(metrics).size() == 6u);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
