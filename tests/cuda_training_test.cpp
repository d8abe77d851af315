// SPDX-License-Identifier: Apache-2.0
// What the CUDA backend promises about training; needs `mahia-tests -- --device cuda`.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <cmath>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/counters.hpp"
#include "core/factory.hpp"
#include "core/random.hpp"
#include "core/runtime.hpp"
#include "nn/models/hyena_moe_lm.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/compare.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/device.hpp"
#include "tests/support/op_spec.hpp"
#include "tests/support/temporary_folder.hpp"
#include "tests/support/warnings.hpp"
#include "train/optimizer.hpp"
#include "train/precision.hpp"
#include "train/train_step.hpp"
#include "train/trainer.hpp"

namespace mahia {
namespace {

using tests::BatchInvariant;
using tests::check_same_bits;
using tests::NeedsCuda;
using tests::tested_device;
using tests::warnings_of;

// A small language model, trained on the same random bytes on any device.
struct Training {
  explicit Training(Device device, DType precision = DType::f32, double dropout = 0.1)
      : model({.vocab = 256, .width = 64, .layers = 2, .l_max = 100, .experts = 4, .hidden = 96, .dropout = dropout}) {
    if (precision == DType::bf16) train::to_bf16(model);
    model.to(device);
    optimizer = std::make_unique<train::AdamW>(model);
    const RandomCall call{random_key("tests", "tokens"), 0, 0};
    std::vector<int64_t> ids(600);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = random_words(call, i)[0] % 256;
    tokens = Tensor::from(std::vector<int64_t>(ids.begin(), ids.begin() + 300), {3, 100}, device);
    targets = Tensor::from(std::vector<int64_t>(ids.begin() + 300, ids.end()), {3, 100}, device);
  }
  Tensor step() {
    const auto out = model.loss(tokens, targets);
    optimizer->zero_grad();
    backward(out.loss + out.aux * 0.02);
    optimizer->clip_grad_norm(1.0);
    optimizer->step(1e-3);
    return out.loss;
  }
  nn::models::HyenaMoeLM model;
  std::unique_ptr<train::Optimizer> optimizer;
  Tensor tokens, targets;
};

BOOST_AUTO_TEST_SUITE(cuda_training)

BOOST_AUTO_TEST_CASE(twenty_steps_follow_the_cpu, *boost::unit_test::precondition(NeedsCuda())) {
  manual_seed(5);
  Training here(cpu_device);
  std::vector<double> losses;
  for (int i = 0; i < 20; ++i) losses.push_back(here.step().item<double>());
  manual_seed(5);
  Training there(tested_device());
  for (int i = 0; i < 20; ++i) {
    const double loss = there.step().item<double>();
    BOOST_TEST(std::abs(loss - losses[static_cast<size_t>(i)]) <= 1e-4 * losses[static_cast<size_t>(i)],
               "step " << i << ": " << loss << " there, " << losses[static_cast<size_t>(i)] << " here");
  }
  BOOST_TEST(losses.back() < losses.front());
}

BOOST_AUTO_TEST_CASE(repeated_runs_have_the_same_bits, *boost::unit_test::precondition(NeedsCuda())) {
  for (const DType precision : {DType::f32, DType::bf16}) {
    nn::NamedTensors first;
    for (int repeat = 0; repeat < 20; ++repeat) {
      manual_seed(6);
      Training training(tested_device(), precision);
      for (int i = 0; i < 50; ++i) training.step();
      const nn::NamedTensors state = training.model.state_dict();
      if (first.empty()) first = state;
      for (size_t i = 0; i < state.size(); ++i) {
        BOOST_TEST_CONTEXT(state[i].first) { check_same_bits(state[i].second, first[i].second); }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(a_warm_step_waits_for_nothing_and_takes_no_memory, *boost::unit_test::precondition(NeedsCuda())) {
  Training training(tested_device(), DType::bf16);
  for (int i = 0; i < 8; ++i) training.step();
  const int64_t before = memory_stats(tested_device()).system_allocations;
  reset_counters();
  for (int i = 0; i < 10; ++i) training.step();
  BOOST_TEST(counters().host_waits == 0);
  BOOST_TEST(counters().launches > 0);
  BOOST_TEST(memory_stats(tested_device()).system_allocations == before);
}

BOOST_AUTO_TEST_CASE(a_sequence_has_the_same_bits_in_any_batch_if_asked, *boost::unit_test::precondition(NeedsCuda())) {
  const NoGrad no_grad;
  for (const DType precision : {DType::f32, DType::bf16}) {
    nn::models::HyenaMoeLM model({.vocab = 256, .width = 128, .layers = 2, .l_max = 200, .hidden = 256});
    if (precision == DType::bf16) train::to_bf16(model);
    model.to(tested_device());
    model.eval();
    const Tensor tokens = randint(0, 256, {9, 200}, DType::i64, tested_device());
    const BatchInvariant scope;
    const Tensor all = model(tokens);
    for (const int64_t row : {0, 4, 8}) {
      check_same_bits(model(contiguous(narrow(tokens, 0, row, 1))), contiguous(narrow(all, 0, row, 1)));
    }
  }
}

enum class Course { plain, sgd_and_micro_batches, evaluated };

// 100 steps of the trainer; the losses it logged.
std::vector<double> train_through(Training& training, Course course, bool capture) {
  const RandomCall call{random_key("tests", "data"), 0, 0};
  const Tensor ids = to(rand({64, 101}, call) * 255.0, DType::i64);
  const Tensor inputs = contiguous(narrow(ids, 1, 0, 100)), targets = contiguous(narrow(ids, 1, 1, 100));
  const auto data = std::make_shared<train::TensorBatches>(inputs, targets, 3, 1);
  std::vector<double> losses;
  train::TrainerOptions options{.steps = 100, .capture = capture, .log_every = 1};
  options.schedules.lr = {.kind = train::ScheduleKind::cosine, .peak = 0.003, .steps = 100, .warmup = 5};
  options.on_step = [&](const train::Progress& p) { losses.push_back(p.loss); };
  if (course == Course::evaluated) {
    options.held_out = {{contiguous(narrow(inputs, 0, 0, 5)), contiguous(narrow(targets, 0, 0, 5))}};
    options.evaluate_every = 7;
  }
  if (course == Course::sgd_and_micro_batches) {
    options.micro_batches = 2;
    training.optimizer = std::make_unique<train::Sgd>(training.model, SgdOptions{.momentum = 0.9, .nesterov = true});
  }
  train::Trainer(training.model, *training.optimizer, data, options).run();
  return losses;
}

BOOST_AUTO_TEST_CASE(captured_steps_equal_eager_steps, *boost::unit_test::precondition(NeedsCuda())) {
  for (const DType precision : {DType::f32, DType::bf16}) {
    for (const Course course : {Course::plain, Course::sgd_and_micro_batches, Course::evaluated}) {
      manual_seed(8);
      Training eager(tested_device(), precision);
      const std::vector<double> expected = train_through(eager, course, false);
      manual_seed(8);
      Training captured(tested_device(), precision);
      const std::vector<double> losses = train_through(captured, course, true);
      BOOST_TEST(losses == expected, boost::test_tools::per_element());
      BOOST_TEST(losses.back() < losses.front());
      const nn::NamedTensors a = captured.model.state_dict(), b = eager.model.state_dict();
      for (size_t i = 0; i < a.size(); ++i) {
        BOOST_TEST_CONTEXT(a[i].first) { check_same_bits(a[i].second, b[i].second); }
      }
    }
  }
}

// Batches made on the spot.
class MadeBatches : public train::BatchSource {
 public:
  explicit MadeBatches(std::function<train::Batch(int64_t)> make) : make_(std::move(make)) {}
  train::Batch at(int64_t index) const override { return make_(index); }

 private:
  std::function<train::Batch(int64_t)> make_;
};

Tensor random_ids(int64_t index, const Shape& shape) {
  return to(rand(shape, {random_key("tests", "batches"), 0, static_cast<uint64_t>(index)}) * 254.0, DType::i64);
}

// The losses of 40 steps on batches of random tokens whose shape depends on their number.
std::vector<double> losses_on(const std::function<Shape(int64_t)>& shape, bool capture) {
  const auto data = std::make_shared<MadeBatches>([&](int64_t i) {
    const Tensor ids = random_ids(i, shape(i));
    return train::Batch{ids, ids};
  });
  manual_seed(14);
  Training training(tested_device());
  std::vector<double> values;
  train::TrainerOptions options{.steps = 40, .capture = capture, .log_every = 1};
  options.on_step = [&](const train::Progress& p) { values.push_back(p.loss); };
  train::Trainer(training.model, *training.optimizer, data, options).run();
  return values;
}

BOOST_AUTO_TEST_CASE(each_shape_of_batch_has_its_own_record, *boost::unit_test::precondition(NeedsCuda())) {
  const auto shape = [](int64_t i) { return i % 3 == 2 ? Shape{5, 41} : Shape{3, 100}; };
  BOOST_TEST(losses_on(shape, true) == losses_on(shape, false), boost::test_tools::per_element());
}

// Nine shapes by turns: each record is dropped before it comes back.
BOOST_AUTO_TEST_CASE(too_many_shapes_by_turns_are_a_warning, *boost::unit_test::precondition(NeedsCuda())) {
  const auto losses = [](bool capture, int64_t shapes) {
    return losses_on([shapes](int64_t i) { return Shape{2, 20 + i % shapes}; }, capture);
  };
  std::vector<double> captured;
  BOOST_TEST(warnings_of([&] { captured = losses(true, 9); }) ==
             "mahia: warning: train: more than 8 shapes of batches come by turns; graphs are kept for so many, so that "
             "steps are recorded again and again or not at all: pad the batches to fewer shapes\n");
  BOOST_TEST(captured == losses(false, 9), boost::test_tools::per_element());
  BOOST_TEST(warnings_of([&] { losses(true, 8); }) == "");
}

BOOST_AUTO_TEST_CASE(replayed_steps_take_no_memory, *boost::unit_test::precondition(NeedsCuda())) {
  Training training(tested_device(), DType::bf16);
  const Tensor ids = randint(0, 256, {64, 100});
  const auto data = std::make_shared<train::TensorBatches>(ids, ids, 3, 1);
  int64_t early = 0, late = 0;
  train::TrainerOptions options{.steps = 60, .log_every = 7};
  options.on_step = [&](const train::Progress& p) {
    (p.step <= 10 ? early : late) = memory_stats(tested_device()).system_allocations;
  };
  train::Trainer(training.model, *training.optimizer, data, options).run();
  BOOST_TEST(early > 0);
  BOOST_TEST(late == early);
}

// The record cannot look at the step, so here the data is what goes wrong: the token 255 in batch 23.
BOOST_AUTO_TEST_CASE(a_replayed_step_that_goes_wrong_is_named, *boost::unit_test::precondition(NeedsCuda())) {
  const auto data = std::make_shared<MadeBatches>([](int64_t i) {
    const Tensor ids = random_ids(i, {3, 100});
    return train::Batch{i == 23 ? full({3, 100}, 255, DType::i64) : ids, ids};
  });
  const auto train_to = [&](int64_t steps, std::string* text) {
    manual_seed(15);
    Training training(tested_device());
    const train::Trainer::Loss loss = [&](const train::Batch& b) {
      const Tensor bad = sum(to(eq(b.tokens, 255.0), DType::f32));
      return train::LossTerms{training.model.loss(b.tokens, b.targets).loss + log(1.0 - bad), {}};
    };
    try {
      train::Trainer(training.model, loss, *training.optimizer, data, {.steps = steps, .log_every = 20}).run();
    } catch (const ValueError& error) {
      *text = error.what();
    }
    return training.model.state_dict();
  };
  std::string none, text;
  const nn::NamedTensors before = train_to(23, &none), stopped = train_to(60, &text);
  BOOST_TEST(none.empty(), none);
  BOOST_TEST(text.find("training stopped at step 24: the loss, element 0 is ") != std::string::npos, text);
  BOOST_TEST(text.find("; the first op: log") != std::string::npos, text);
  for (size_t i = 0; i < before.size(); ++i) {
    BOOST_TEST_CONTEXT(before[i].first) { check_same_bits(stopped[i].second, before[i].second); }
  }
}

BOOST_AUTO_TEST_CASE(a_model_that_was_moved_is_recorded_anew, *boost::unit_test::precondition(NeedsCuda())) {
  Training training(tested_device());
  const Tensor ids = randint(0, 256, {64, 100});
  const auto data = std::make_shared<train::TensorBatches>(ids, ids, 3, 1);
  train::TrainerOptions options{.steps = 40, .log_every = 1};
  double first = 0, last = 0;
  options.on_step = [&](const train::Progress& p) {
    (p.step == 1 ? first : last) = p.loss;
    if (p.step != 10) return;
    training.model.to(cpu_device);
    training.model.to(tested_device());
  };
  train::Trainer(training.model, *training.optimizer, data, options).run();
  BOOST_TEST(last < 0.9 * first);
}

BOOST_AUTO_TEST_CASE(a_resumed_run_has_the_same_bits, *boost::unit_test::precondition(NeedsCuda())) {
  const tests::TemporaryFolder folder;
  const Tensor ids = randint(0, 256, {64, 100});
  const auto data = std::make_shared<train::TensorBatches>(ids, ids, 3, 1);
  const auto train_to = [&](const std::string& name, int64_t steps) {
    manual_seed(13);
    Training training(tested_device(), DType::bf16);
    train::Trainer(training.model, *training.optimizer, data,
                   {.steps = steps, .out = folder.path() + "/" + name, .resume = true})
        .run();
    return training.model.state_dict();
  };
  train_to("cut", 13);
  const nn::NamedTensors a = train_to("cut", 30), b = train_to("whole", 30);
  for (size_t i = 0; i < a.size(); ++i) {
    BOOST_TEST_CONTEXT(a[i].first) { check_same_bits(a[i].second, b[i].second); }
  }
}

BOOST_AUTO_TEST_CASE(a_captured_step_takes_50_microseconds_of_the_host, *boost::unit_test::precondition(NeedsCuda())) {
  nn::models::HyenaMoeLM model({.vocab = 256, .width = 256, .layers = 4, .l_max = 1024, .hidden = 512});
  train::to_bf16(model);
  model.to(tested_device());
  train::AdamW optimizer(model);
  const train::Trainer::Loss loss = [&](const train::Batch& b) {
    return train::loss_terms(model.loss(b.tokens, b.targets));
  };
  train::TrainStep step(loss, optimizer, {}, tested_device());
  train::StepState state({.lr = {.peak = 1e-3}}, tested_device());
  const train::Batch tokens{randint(0, 256, {16, 1024}), randint(0, 256, {16, 1024})};
  const std::vector<train::Batch> batch = {tokens.pinned(tested_device())};
  const auto micros = [](auto from, auto to) { return std::chrono::duration<double, std::micro>(to - from).count(); };
  std::vector<double> running, advancing, first;
  for (int i = 0; i < 400; ++i) {
    // Bursts of eight, so that the host never waits for room in the queue of a busy device.
    if (i % 8 == 0) synchronize(tested_device());
    const auto start = std::chrono::steady_clock::now();
    state.advance(i);
    const auto middle = std::chrono::steady_clock::now();
    step.run(batch, state);
    (i % 8 == 0 ? first : running).push_back(micros(start, std::chrono::steady_clock::now()));
    advancing.push_back(micros(start, middle));
  }
  const auto median = [](std::vector<double>& times) {
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  };
  const double usual = median(running);
  BOOST_TEST_MESSAGE("host time of a captured step: " << usual << " us, of it StepState " << median(advancing)
                                                      << "; right after a wait " << median(first));
  BOOST_TEST(usual <= 50.0);
}

// The trainer waits for the device when it logs, never between.
BOOST_AUTO_TEST_CASE(a_trained_step_waits_for_nothing, *boost::unit_test::precondition(NeedsCuda())) {
  Training training(tested_device(), DType::bf16);
  const Tensor ids = randint(0, 256, {64, 100});
  const auto data = std::make_shared<train::TensorBatches>(ids, ids, 3, 1);
  reset_counters();
  train::Trainer(training.model, *training.optimizer, data, {.steps = 45, .log_every = 0}).run();
  BOOST_TEST(counters().host_waits <= 4);  // at the end: loss, auxiliary loss, gradient norm
}

BOOST_AUTO_TEST_CASE(a_loss_that_is_not_finite_stops_with_its_step_and_op,
                     *boost::unit_test::precondition(NeedsCuda())) {
  Training training(tested_device());
  const Tensor ids = randint(0, 256, {64, 100});
  const auto data = std::make_shared<train::TensorBatches>(ids, ids, 3, 1);
  int64_t step = 0;
  const train::Trainer::Loss loss = [&](const train::Batch& b) {
    const Tensor value = training.model.loss(b.tokens, b.targets).loss;
    return train::LossTerms{random_step() == 7 ? log(value - 1e6) : value, {}};
  };
  train::TrainerOptions options{.steps = 30, .capture = false, .log_every = 10};  // the loss looks at the step
  options.on_step = [&](const train::Progress& p) { step = p.step; };
  train::Trainer trainer(training.model, loss, *training.optimizer, data, options);
  manual_seed(1);
  std::string text;
  try {
    trainer.run();
  } catch (const ValueError& error) {
    text = error.what();
  }
  BOOST_TEST(text.find("training stopped at step 8: the loss, element 0 is ") != std::string::npos, text);
  BOOST_TEST(text.find(", must be finite; the first op: log") != std::string::npos, text);
  for (const auto& [name, parameter] : training.model.named_parameters())
    BOOST_TEST(count_nonfinite(parameter) == 0, name);
}

BOOST_AUTO_TEST_CASE(a_run_moves_between_devices, *boost::unit_test::precondition(NeedsCuda())) {
  const tests::TemporaryFolder folder;
  const Tensor ids = randint(0, 256, {64, 100});
  const auto data = std::make_shared<train::TensorBatches>(ids, ids, 3, 1);
  const auto train_on = [&](Device device, int64_t steps) {
    manual_seed(12);
    Training training(device);
    return train::Trainer(training.model, *training.optimizer, data,
                          {.steps = steps, .out = folder.path() + "/run", .resume = true})
        .run()
        .loss;
  };
  const double first = train_on(tested_device(), 10), second = train_on(cpu_device, 20),
               third = train_on(tested_device(), 30);
  BOOST_TEST(second < first);
  BOOST_TEST(third < second);
}

BOOST_AUTO_TEST_CASE(bf16_learns_as_f32_does, *boost::unit_test::precondition(NeedsCuda())) {
  double last[2];
  for (const DType precision : {DType::f32, DType::bf16}) {
    manual_seed(9);
    Training training(tested_device(), precision, 0);
    for (int i = 0; i < 60; ++i) last[precision == DType::bf16] = training.step().item<double>();
  }
  BOOST_TEST(std::abs(last[1] - last[0]) <= 0.05 * last[0], last[0] << " in f32, " << last[1] << " in bf16");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia
