// SPDX-License-Identifier: Apache-2.0
// Closed loops and loss-free balancing in captured steps; needs `mahia-tests -- --device cuda`.
#include <boost/test/unit_test.hpp>

#include "core/factory.hpp"
#include "core/random.hpp"
#include "nn/models/hyena_moe_lm.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "tests/support/device.hpp"
#include "tests/support/op_spec.hpp"
#include "tests/support/temporary_folder.hpp"
#include "train/trainer.hpp"

namespace mahia::train {
namespace {

using tests::check_same_bits;
using tests::NeedsCuda;
using tests::tested_device;

nn::models::HyenaMoeLMConfig balanced_config() {
  manual_seed(16);
  nn::models::HyenaMoeLMConfig c{.vocab = 256, .width = 64, .layers = 2, .l_max = 100, .experts = 4, .hidden = 96};
  c.routing.select_bias = true;
  c.capacity.train_factor = 1.25;
  c.losses = {nn::AuxLoss::variance};
  c.dropout = 0.1;
  return c;
}

// A loop for all layers, one for each, and a weight for each.
Schedules controlled() {
  Schedules s{.lr = {.peak = 0.003}};
  s.aux.balance = {.kind = ScheduleKind::pi,
                   .peak = 0.01,
                   .feedback = {.metric = nn::Imbalance::drop_rate, .target = 0.05, .gain = 0.5, .rate_limit = 0.1}};
  s.aux.variance = {.kind = ScheduleKind::sign, .peak = 0.01, .feedback = {.per_layer = true}, .layers = {1, 0.5}};
  s.aux.z_loss = {.peak = 1e-3, .layers = {1, 2}};
  return s;
}

// Weights, biases and the loops' state after a run, and the losses it logged.
struct Outcome {
  nn::NamedTensors state;
  std::vector<double> losses;
};
Outcome train_to(int64_t steps, const std::string& out, bool capture) {
  nn::models::HyenaMoeLM model(balanced_config());
  model.to(tested_device());
  AdamW optimizer(model);
  const Tensor ids = to(rand({64, 100}, {random_key("tests", "ids"), 0, 0}) * 255.0, DType::i64);
  Outcome outcome;
  TrainerOptions options{.steps = steps, .micro_batches = 2, .schedules = controlled(), .out = out, .resume = true};
  options.capture = capture;
  options.log_every = 1;
  options.on_step = [&](const Progress& p) { outcome.losses.push_back(p.loss); };
  Trainer(model, optimizer, std::make_shared<TensorBatches>(ids, ids, 3, 1), options).run();
  outcome.state = model.state_dict();
  for (auto& entry : read_run_state(find_checkpoint(out)).schedule_state) outcome.state.push_back(std::move(entry));
  return outcome;
}

void check_same(const Outcome& a, const Outcome& b) {
  BOOST_REQUIRE(a.state.size() == b.state.size());
  for (size_t i = 0; i < a.state.size(); ++i) {
    BOOST_TEST_CONTEXT(a.state[i].first) { check_same_bits(a.state[i].second, b.state[i].second); }
  }
}

BOOST_AUTO_TEST_SUITE(cuda_training)

BOOST_AUTO_TEST_CASE(captured_controlled_steps_equal_eager_ones, *boost::unit_test::precondition(NeedsCuda())) {
  const tests::TemporaryFolder folder;
  const Outcome eager = train_to(60, folder / "eager", false), captured = train_to(60, folder / "captured", true);
  BOOST_TEST(captured.losses == eager.losses, boost::test_tools::per_element());
  check_same(captured, eager);
}

BOOST_AUTO_TEST_CASE(controlled_steps_resume_to_the_same_bits, *boost::unit_test::precondition(NeedsCuda())) {
  const tests::TemporaryFolder folder;
  train_to(13, folder / "cut", true);
  check_same(train_to(30, folder / "cut", true), train_to(30, folder / "whole", true));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
