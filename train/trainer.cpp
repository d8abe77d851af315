// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.hpp"

#include <chrono>
#include <cmath>
#include <limits>
#include <numbers>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/random.hpp"
#include "ops/binary.hpp"
#include "train/file.hpp"
#include "train/stop_signals.hpp"

namespace mahia::train {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

bool is_due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

int64_t targets_of(const Batch& batch) {
  return batch.targets.defined() ? batch.targets.numel() : batch.tokens.size(0);
}

// No gradients, eval mode, and afterwards everything as it was.
class Evaluating {
 public:
  explicit Evaluating(nn::Module& model) : model_(model), training_(model.training()), counts_(random_counts()) {
    model_.eval();
  }
  ~Evaluating() {
    model_.train(training_);
    set_random_counts(std::move(counts_));
  }
  Evaluating(const Evaluating&) = delete;
  Evaluating& operator=(const Evaluating&) = delete;

 private:
  nn::Module& model_;
  bool training_;
  RandomCounts counts_;
  NoGrad no_grad_;
};

std::string to_text(const Schedules& s) { return "lr " + to_text(s.lr) + "; aux " + to_text(s.aux); }

}  // namespace

Trainer::Trainer(nn::Module& model, Loss loss, Optimizer& optimizer, std::shared_ptr<const BatchSource> data,
                 TrainerOptions options)
    : model_(model),
      loss_(std::move(loss)),
      optimizer_(optimizer),
      data_(std::move(data)),
      options_(std::move(options)) {
  const Tensors parameters = model.parameters();
  check<ValueError>(!parameters.empty(), "Trainer: the model has no parameters");
  device_ = parameters.front().device();
  const TrainerOptions& o = options_;
  check<ValueError>(o.steps >= 0 && o.micro_batches >= 1 && o.keep_checkpoints >= 1, "Trainer: steps ", o.steps,
                    " must be >= 0, micro_batches ", o.micro_batches, " and keep_checkpoints ", o.keep_checkpoints,
                    " at least 1");
  check<ValueError>(o.max_grad_norm >= 0 && o.max_minutes >= 0 && o.checkpoint_minutes >= 0, "Trainer: max_grad_norm ",
                    o.max_grad_norm, ", max_minutes ", o.max_minutes, " and checkpoint_minutes ", o.checkpoint_minutes,
                    " must be >= 0");
  check<ValueError>(!o.resume || !o.out.empty(), "Trainer: nothing to resume without a folder `out`");
  o.schedules.lr.validate("lr");
  o.schedules.aux.validate("aux coefficient");
}

HeldOutRecord Trainer::evaluate() const {
  check<ValueError>(!options_.held_out.empty(), "Trainer: no held-out batches to evaluate");
  const Evaluating evaluating(model_);
  HeldOutRecord record;
  for (const Batch& batch : options_.held_out) {
    const int64_t targets = targets_of(batch);
    record.loss += loss_(batch.to(device_)).loss.item<double>() * static_cast<double>(targets);
    record.targets += targets;
  }
  record.loss /= static_cast<double>(record.targets);
  record.bits_per_byte = record.loss / std::numbers::ln2;
  return record;
}

// What changes while run() works.
class Trainer::Run {
 public:
  explicit Run(Trainer& trainer) : t_(trainer), o_(trainer.options_), state_(trainer.device_) {}
  TrainingResult all();

 private:
  void start();
  void train_step();
  void forward_and_backward(const Batch& batch);
  LossTerms forward(const Batch& batch);
  [[noreturn]] void explain(const Batch& batch, RandomCounts counts, const std::string& what);
  void log_step();
  void evaluate();
  void report(const StepRecord* record, const HeldOutRecord* held_out) const;
  bool is_time_to_save() const;
  void save();

  Trainer& t_;
  const TrainerOptions& o_;
  const StopSignals signals_;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  StepState state_;
  std::unique_ptr<Prefetcher> batches_;
  std::unique_ptr<MetricsLog> metrics_;
  StepRecord record_;  // of the step that was done last; record_.step counts all steps done
  std::function<std::vector<std::vector<double>>()> load_;
  int64_t targets_ = 0;  // since the last log line
  double seconds_ = 0;
  HeldOutRecord held_out_{.step = -1};
  int64_t saved_step_ = 0;
  std::chrono::steady_clock::time_point saved_ = started_;
};

TrainingResult Trainer::run() { return Run(*this).all(); }

TrainingResult Trainer::Run::all() {
  start();
  TrainingResult result;
  if (o_.evaluate_at_start && record_.step == 0) evaluate();
  while (record_.step < o_.steps && result.reason == StopReason::finished) {
    train_step();
    const bool logs = is_due(record_.step, o_.log_every) || record_.step == 1 || record_.step == o_.steps;
    if (logs && o_.log_every > 0) {
      log_step();
    } else {
      report(nullptr, nullptr);
    }
    if (is_due(record_.step, o_.evaluate_every)) evaluate();
    if (is_time_to_save()) save();
    if (o_.max_minutes > 0 && seconds_since(started_) >= 60 * o_.max_minutes) result.reason = StopReason::out_of_time;
    if (signals_.received() != 0) result.reason = StopReason::interrupted;
  }
  if (result.reason != StopReason::interrupted && held_out_.step != record_.step) evaluate();
  if (record_.step != saved_step_) save();
  if (held_out_.step >= 0) result.held_out = held_out_;
  result.signal = signals_.received();
  result.step = record_.step;
  result.loss = record_.loss;
  return result;
}

void Trainer::Run::start() {
  int64_t next_batch = 0;
  if (!o_.out.empty()) {
    const std::string found = find_checkpoint(o_.out + "/checkpoints");
    check<ValueError>(found.empty() || o_.resume, o_.out,
                      ": a run is here already; resume it or choose another folder");
    if (!found.empty()) {
      const RunState saved = load_checkpoint(found, t_.model_, t_.optimizer_);
      check<ValueError>(saved.schedules == to_text(o_.schedules), found,
                        ": was trained with other schedules: ", saved.schedules,
                        "; now they are: ", to_text(o_.schedules));
      record_.step = saved_step_ = saved.step;
      next_batch = saved.next_batch;
    }
    make_directories(o_.out);
    const std::string path = o_.out + "/metrics.jsonl";
    metrics_ = std::make_unique<MetricsLog>(path, record_.step);
    const Metrics before = read_metrics(path);
    if (!before.held_out.empty()) held_out_ = before.held_out.back();
  }
  batches_ = std::make_unique<Prefetcher>(t_.data_, next_batch);
  t_.model_.train();
}

void Trainer::Run::train_step() {
  const auto start = std::chrono::steady_clock::now();
  state_.advance(record_.step, o_.schedules);
  record_ = {.step = record_.step, .lr = state_.host_lr, .aux_coefficient = state_.host_aux};
  t_.optimizer_.zero_grad();
  for (int64_t i = 0; i < o_.micro_batches; ++i) {
    const Batch batch = batches_->next();
    targets_ += targets_of(batch);
    forward_and_backward(batch.to(t_.device_));
  }
  const double limit = o_.max_grad_norm > 0 ? o_.max_grad_norm : std::numeric_limits<double>::infinity();
  record_.grad_norm = clip_grad_norm(t_.optimizer_, limit).item<double>();
  check<ValueError>(std::isfinite(record_.grad_norm), "training stopped at step ", record_.step + 1,
                    ": the loss is finite, the norm of its gradients is ", record_.grad_norm);
  t_.optimizer_.step(state_);
  ++record_.step;
  seconds_ += seconds_since(start);
}

void Trainer::Run::forward_and_backward(const Batch& batch) {
  const LossTerms terms = forward(batch);
  const double share = 1 / static_cast<double>(o_.micro_batches);
  record_.loss += terms.loss.item<double>() * share;
  if (terms.aux.defined()) record_.aux_loss += terms.aux.item<double>() * share;
  load_ = terms.load;
  const Tensor total = terms.aux.defined() ? terms.loss + state_.aux * terms.aux : terms.loss;
  backward(o_.micro_batches == 1 ? total : total * share);
}

LossTerms Trainer::Run::forward(const Batch& batch) {
  const RandomCounts counts = random_counts();
  LossTerms terms;
  try {
    terms = t_.loss_(batch);
  } catch (const ValueError& error) {  // such as NaN logits, which a router refuses
    explain(batch, counts, error.what());
  }
  const double loss = terms.loss.item<double>(), aux = terms.aux.defined() ? terms.aux.item<double>() : 0;
  if (!std::isfinite(loss)) explain(batch, counts, message("the loss is ", loss));
  if (!std::isfinite(aux)) explain(batch, counts, message("the auxiliary loss is ", aux));
  return terms;
}

// Runs the forward again with the same random numbers and looks at every op's result.
void Trainer::Run::explain(const Batch& batch, RandomCounts counts, const std::string& what) {
  const std::string stopped = message("training stopped at step ", record_.step + 1, ": ", what);
  set_random_counts(std::move(counts));
  const CheckFinite checking;
  try {
    t_.loss_(batch);
  } catch (const ValueError& first) {
    check<ValueError>(first.what() == what, stopped, "; the first op: ", first.what());
  }
  fail<ValueError>(stopped);
}

void Trainer::Run::log_step() {
  record_.tokens_per_second = static_cast<double>(targets_) / seconds_;
  if (load_) record_.expert_load = load_();
  targets_ = 0;
  seconds_ = 0;
  if (metrics_) metrics_->write(record_);
  report(&record_, nullptr);
}

void Trainer::Run::evaluate() {
  if (o_.held_out.empty()) return;
  held_out_ = t_.evaluate();
  held_out_.step = record_.step;
  if (metrics_) metrics_->write(held_out_);
  report(nullptr, &held_out_);
}

void Trainer::Run::report(const StepRecord* record, const HeldOutRecord* held_out) const {
  if (!o_.on_step) return;
  o_.on_step({.step = record_.step,
              .steps = o_.steps,
              .loss = record_.loss,
              .seconds = seconds_since(started_),
              .record = record,
              .held_out = held_out});
}

bool Trainer::Run::is_time_to_save() const {
  const bool waited = o_.checkpoint_minutes > 0 && seconds_since(saved_) >= 60 * o_.checkpoint_minutes;
  return waited || is_due(record_.step, o_.checkpoint_every);
}

void Trainer::Run::save() {
  if (o_.out.empty()) return;
  for (const auto& [name, parameter] : t_.model_.named_parameters()) {
    check<ValueError>(count_nonfinite(parameter) == 0, "training stopped at step ", record_.step, ": ", name,
                      " holds infinite or NaN values; no checkpoint was written");
  }
  metrics_->flush();
  const RunState now{record_.step, batches_->cursor(), to_text(o_.schedules), o_.notes};
  save_checkpoint(o_.out + "/checkpoints", t_.model_, t_.optimizer_, now, o_.keep_checkpoints);
  saved_step_ = record_.step;
  saved_ = std::chrono::steady_clock::now();
}

}  // namespace mahia::train
