// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <csignal>
#include <numbers>
#include <random>
#include <thread>

#include "core/copy.hpp"
#include "core/factory.hpp"
#include "nn/linear.hpp"
#include "ops/binary.hpp"
#include "ops/mse_loss.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "tests/support/op_spec.hpp"
#include "tests/support/process.hpp"
#include "tests/support/temporary_folder.hpp"
#include "tests/support/tiny_run.hpp"

namespace mahia::train {
namespace {

using tests::check_same_bits;
using tests::check_throws;
using tests::TemporaryFolder;
using tests::TinyRun;

// A folder with the tiny text; runs go beside it.
struct TinyFolder : TemporaryFolder {
  TinyFolder() { tests::write_tiny_text(text()); }
  std::string text() const { return *this / "text.txt"; }
};

TrainerOptions tiny_options(int64_t steps, const std::string& out = "") {
  TrainerOptions options;
  options.steps = steps;
  options.out = out;
  options.resume = !out.empty();
  options.log_every = 1;
  options.checkpoint_every = 4;
  return options;
}

nn::NamedTensors trained_state(const std::string& text, const TrainerOptions& options) {
  TinyRun run(text);
  run.train(options);
  return run.state();
}

void check_same_state(const nn::NamedTensors& a, const nn::NamedTensors& b) {
  BOOST_REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    BOOST_TEST(a[i].first == b[i].first);
    BOOST_TEST_CONTEXT(a[i].first) { check_same_bits(a[i].second, b[i].second); }
  }
}

// Two runs left the same metrics, apart from their speed.
void check_same_metrics(const std::string& out, const std::string& other) {
  const Metrics a = read_metrics(out + "/metrics.jsonl"), b = read_metrics(other + "/metrics.jsonl");
  BOOST_REQUIRE(a.steps.size() == b.steps.size());
  for (size_t i = 0; i < a.steps.size(); ++i) {
    const StepRecord &x = a.steps[i], &y = b.steps[i];
    BOOST_TEST(x.step == static_cast<int64_t>(i + 1));
    BOOST_TEST((x.step == y.step && x.loss == y.loss && x.lr == y.lr && x.aux_coefficient == y.aux_coefficient &&
                x.aux_loss == y.aux_loss && x.grad_norm == y.grad_norm && x.expert_load == y.expert_load));
    BOOST_REQUIRE(x.layers.size() == y.layers.size());
    for (size_t l = 0; l < x.layers.size(); ++l) {
      const LayerRecord &a_layer = x.layers[l], &b_layer = y.layers[l];
      BOOST_TEST((a_layer.pairs == b_layer.pairs && a_layer.mean_top1 == b_layer.mean_top1 &&
                  a_layer.dead_experts == b_layer.dead_experts));
    }
  }
}

// The weights after `steps` of a run that was not interrupted.
nn::NamedTensors uninterrupted(const TinyFolder& folder, int64_t steps) {
  return trained_state(folder.text(), tiny_options(steps));
}

// One weight, and a loss made of it and the step.
struct OneWeight : nn::Module {
  Tensor weight = parameter("weight", ones({1}));
};
struct NoData : BatchSource {
  Batch at(int64_t) const override { return {zeros({1}), {}}; }
};

// Trains OneWeight with `loss`, which gets the number of its call, and returns the error's text.
std::string error_of_training(OneWeight& model, const std::string& out,
                              const std::function<Tensor(const Tensor&, int)>& loss) {
  Sgd sgd(model);
  int calls = 0;
  TrainerOptions options = tiny_options(10, out);
  options.checkpoint_every = 2;
  const auto terms = [&](const Batch&) { return loss_terms(loss(model.weight, ++calls)); };
  Trainer trainer(model, terms, sgd, std::make_shared<NoData>(), options);
  try {
    trainer.run();
  } catch (const ValueError& error) {
    return error.what();
  }
  return "no error";
}

// A child that trains is killed at random moments until it reaches its last step; other threads each time.
void survive_kills(int kills) {
  constexpr int64_t steps = 30;
  const TinyFolder folder;
  const nn::NamedTensors expected = uninterrupted(folder, steps);
  std::mt19937 random(3);
  int done = 0;
  for (int run = 0; done < kills; ++run) {
    const std::string out = folder / std::to_string(run), last = std::to_string(steps);
    for (int result = -SIGKILL; result == -SIGKILL; ++done) {
      const auto after = std::chrono::milliseconds(30 + random() % 400);
      result = tests::run_and_kill({"train", folder.text(), out, last, std::to_string(1 + done % 2)}, after);
      BOOST_REQUIRE((result == -SIGKILL || result == 0));
    }
    check_same_state(trained_state(folder.text(), tiny_options(steps, out)), expected);
    check_same_metrics(out, folder / "0");
  }
}

BOOST_AUTO_TEST_SUITE(trainer)

BOOST_AUTO_TEST_CASE(a_tiny_model_learns_its_text) {
  const TinyFolder folder;
  TrainerOptions options = tiny_options(60, folder / "run");
  options.held_out = held_out_batches(ByteText(folder.text()), 4, 32, 4);
  options.evaluate_at_start = true;
  TinyRun run(folder.text());
  const TrainingResult result = run.train(options);
  BOOST_TEST((result.reason == StopReason::finished));
  BOOST_TEST(result.step == 60);
  const Metrics metrics = read_metrics(folder / "run/metrics.jsonl");
  BOOST_REQUIRE(metrics.held_out.size() == 2u);
  BOOST_TEST(metrics.held_out[0].step == 0);
  BOOST_TEST(metrics.held_out[0].bits_per_byte > 6);
  BOOST_TEST(result.held_out->bits_per_byte < 4);
  BOOST_TEST(result.held_out->bits_per_byte == result.held_out->loss / std::numbers::ln2);
  BOOST_TEST(result.held_out->targets == 4 * 4 * 32);
}

BOOST_AUTO_TEST_CASE(metrics_tell_schedules_and_the_load_of_the_experts) {
  const TinyFolder folder;
  trained_state(folder.text(), tiny_options(6, folder / "run"));
  const Metrics metrics = read_metrics(folder / "run/metrics.jsonl");
  BOOST_REQUIRE(metrics.steps.size() == 6u);
  const Schedule lr{.kind = ScheduleKind::cosine, .peak = 0.01, .steps = 100, .warmup = 3};
  for (const StepRecord& record : metrics.steps) {
    BOOST_TEST(record.lr == lr.at(record.step - 1));
    BOOST_TEST(record.aux_loss > 0.5);
    BOOST_TEST(record.grad_norm > 0);
    BOOST_TEST(record.tokens_per_second > 0);
    BOOST_REQUIRE(record.expert_load.size() == 2u);
    for (const auto& layer : record.expert_load) {
      BOOST_REQUIRE(layer.size() == 4u);
      BOOST_TEST(layer[0] + layer[1] + layer[2] + layer[3] == 1, boost::test_tools::tolerance(1e-12));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_resumed_run_equals_the_uninterrupted_one) {
  const TinyFolder folder;
  TrainerOptions options = tiny_options(12, folder / "whole");
  const nn::NamedTensors expected = trained_state(folder.text(), options);
  options.out = folder / "halves";
  options.steps = 6;
  trained_state(folder.text(), options);
  options.steps = 12;
  check_same_state(trained_state(folder.text(), options), expected);
  check_same_metrics(folder / "whole", folder / "halves");
}

BOOST_AUTO_TEST_CASE(an_aborted_run_repeats_no_step_in_its_metrics) {
  const TinyFolder folder;
  TrainerOptions options = tiny_options(12, folder / "run");
  options.on_step = [](const Progress& progress) { check<IoError>(progress.step < 7, "gone"); };
  check_throws<IoError>([&] { trained_state(folder.text(), options); }, "gone");
  BOOST_TEST(read_metrics(folder / "run/metrics.jsonl").steps.size() == 7u);
  options.on_step = nullptr;
  check_same_state(trained_state(folder.text(), options), uninterrupted(folder, 12));
  options.out = folder / "whole";
  trained_state(folder.text(), options);
  check_same_metrics(folder / "whole", folder / "run");
}

BOOST_AUTO_TEST_CASE(a_signal_lets_the_step_finish_and_saves) {
  const TinyFolder folder;
  for (const int signal : {SIGINT, SIGTERM}) {
    const std::string out = folder / std::to_string(signal);
    TrainerOptions options = tiny_options(12, out);
    options.on_step = [&](const Progress& progress) {
      if (progress.step == 5) std::raise(signal);
    };
    TinyRun run(folder.text());
    const TrainingResult result = run.train(options);
    BOOST_TEST((result.reason == StopReason::interrupted));
    BOOST_TEST(result.signal == signal);
    BOOST_TEST(result.step == 5);
    BOOST_TEST(read_run_state(find_checkpoint(out)).step == 5);
    options.on_step = nullptr;
    check_same_state(trained_state(folder.text(), options), uninterrupted(folder, 12));
  }
}

BOOST_AUTO_TEST_CASE(time_ends_a_run_without_changing_it) {
  const TinyFolder folder;
  TrainerOptions options = tiny_options(5, folder / "run");
  options.max_minutes = 1e-9;
  for (int64_t step = 1; step <= 5; ++step) {
    TinyRun run(folder.text());
    const TrainingResult result = run.train(options);
    BOOST_TEST(result.step == step);
    BOOST_TEST((result.reason == StopReason::out_of_time));
    if (step == 5) check_same_state(run.state(), uninterrupted(folder, 5));
  }
}

BOOST_AUTO_TEST_CASE(evaluation_changes_nothing) {
  const TinyFolder folder;
  TrainerOptions options = tiny_options(5);
  options.held_out = held_out_batches(ByteText(folder.text()), 2, 32, 2);
  options.evaluate_every = 1;
  check_same_state(trained_state(folder.text(), options), uninterrupted(folder, 5));
}

BOOST_AUTO_TEST_CASE(accumulated_gradients_are_those_of_the_large_batch) {
  struct Rows : BatchSource {
    explicit Rows(int64_t rows) : rows_(rows) {}
    Batch at(int64_t index) const override {
      std::vector<float> x, y;
      for (int64_t i = index * rows_; i < (index + 1) * rows_; ++i) {
        x.push_back(static_cast<float>(i % 7));
        y.push_back(static_cast<float>(i % 5));
      }
      return {Tensor::from(x, {rows_, 1}), Tensor::from(y, {rows_, 1})};
    }
    int64_t rows_;
  };
  const auto weights = [](int64_t rows, int64_t micro_batches) {
    manual_seed(0);
    nn::Linear model(1, 1);
    Sgd sgd(model);
    TrainerOptions options;
    options.steps = 4;
    options.micro_batches = micro_batches;
    options.schedules.lr.peak = 0.01;
    const auto loss = [&](const Batch& b) { return loss_terms(mse_loss(model(b.tokens), b.targets)); };
    Trainer(model, loss, sgd, std::make_shared<Rows>(rows), options).run();
    return model.state_dict()[0].second.to_vector<double>()[0];
  };
  BOOST_TEST(weights(6, 1) == weights(2, 3), boost::test_tools::tolerance(1e-6));
  BOOST_TEST(weights(6, 1) != weights(2, 1));
}

BOOST_AUTO_TEST_CASE(a_loss_that_is_not_finite_stops_with_step_and_op) {
  const TemporaryFolder folder;
  OneWeight model;
  // Three good steps, then the logarithm of a negative number.
  const std::string text = error_of_training(
      model, folder / "run", [](const Tensor& w, int call) { return sum(exp(log(w - (call < 4 ? 0.0 : 5.0)))); });
  BOOST_TEST(text.find("training stopped at step 4: the loss is nan; the first op: log") == 0u, text);
  BOOST_TEST(std::isfinite(model.weight.item<float>()));
  BOOST_TEST(read_run_state(find_checkpoint(folder / "run")).step == 2);
  BOOST_TEST(read_metrics(folder / "run/metrics.jsonl").steps.size() == 3u);
}

BOOST_AUTO_TEST_CASE(a_gradient_that_is_not_finite_stops_before_the_update) {
  const TemporaryFolder folder;
  OneWeight model;
  const std::string text = error_of_training(
      model, folder / "run", [](const Tensor& w, int call) { return sum(call < 3 ? w : sqrt(w * 0.0)); });
  BOOST_TEST(text.find("training stopped at step 3: the loss is finite, the norm of its gradients is") == 0u, text);
  BOOST_TEST(std::isfinite(model.weight.item<float>()));
  BOOST_TEST(read_run_state(find_checkpoint(folder / "run")).step == 2);
}

BOOST_AUTO_TEST_CASE(an_error_inside_the_model_is_told_with_the_step) {
  OneWeight model;
  const std::string text = error_of_training(model, "", [](const Tensor& w, int call) {
    check<ValueError>(call < 2, "router: NaN logits");
    return sum(w);
  });
  BOOST_TEST(text == "training stopped at step 2: router: NaN logits");
}

BOOST_AUTO_TEST_CASE(a_run_is_neither_overwritten_nor_continued_as_another) {
  const TinyFolder folder;
  TrainerOptions options = tiny_options(4, folder / "run");
  trained_state(folder.text(), options);
  options.resume = false;
  check_throws<ValueError>([&] { trained_state(folder.text(), options); },
                           "a run is here already; resume it or choose");
  options.resume = true;
  TinyRun run(folder.text());
  const auto batches = std::make_shared<TextBatches>(run.text, 4, 32, 11);
  check_throws<ValueError>([&] { Trainer(run.model, run.optimizer, batches, options).run(); },
                           "was trained with other schedules: lr cosine peak 0.01 final 0 steps 100 warmup 3");
}

BOOST_AUTO_TEST_CASE(options_that_make_no_sense_are_refused) {
  const TinyFolder folder;
  const auto refuses = [&](const std::function<void(TrainerOptions&)>& change, const std::string& text) {
    TrainerOptions options = tiny_options(1);
    change(options);
    check_throws<ValueError>([&] { trained_state(folder.text(), options); }, text);
  };
  refuses([](TrainerOptions& o) { o.steps = -1; }, "Trainer: steps -1 must be >= 0");
  refuses([](TrainerOptions& o) { o.micro_batches = 0; }, "micro_batches 0");
  refuses([](TrainerOptions& o) { o.resume = true; }, "nothing to resume without a folder `out`");
  OneWeight model;
  Sgd sgd(model);
  Trainer trainer(
      model, [](const Batch&) { return LossTerms{}; }, sgd, std::make_shared<NoData>());
  check_throws<ValueError>([&] { trainer.evaluate(); }, "no held-out batches");
}

BOOST_AUTO_TEST_CASE(a_killed_process_resumes_to_the_same_bits_with_one_and_two_threads) { survive_kills(2); }

BOOST_AUTO_TEST_CASE(a_process_that_is_asked_to_stop_says_so_with_its_exit_code) {
  const TinyFolder folder;
  for (const int signal : {SIGINT, SIGTERM}) {
    const std::string out = folder / std::to_string(signal);
    tests::Child child({"train", folder.text(), out, "1000000", "1"});
    while (find_checkpoint(out).empty()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    child.signal(signal);
    BOOST_TEST(child.wait() == 128 + signal);
    BOOST_TEST(read_run_state(find_checkpoint(out)).step >= 3);
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(slow_trainer)

BOOST_AUTO_TEST_CASE(twenty_kills_lead_to_the_same_bits_with_one_and_two_threads) { survive_kills(20); }

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
