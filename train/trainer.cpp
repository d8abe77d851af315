// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.hpp"

#include <chrono>
#include <cmath>
#include <numbers>
#include <numeric>

#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/random.hpp"
#include "train/file.hpp"
#include "train/router_gradients.hpp"
#include "train/routing_files.hpp"
#include "train/stop_signals.hpp"
#include "train/train_step.hpp"

namespace mahia::train {
namespace {

constexpr int64_t longest_unread = 50;  // steps after which a GPU is waited for, to see whether all is well

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
  check<ValueError>(std::isfinite(o.balance_rate) && o.balance_rate >= 0, "Trainer: balance_rate is ", o.balance_rate,
                    ", must be a number >= 0");
  o.schedules.validate();
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
  explicit Run(Trainer& trainer)
      : t_(trainer),
        o_(trainer.options_),
        state_(o_.schedules, trainer.device_),
        step_(trainer.loss_, trainer.optimizer_, o_, trainer.device_) {}
  TrainingResult all();

 private:
  void start();
  void train_step();
  void read_step();
  [[noreturn]] void explain(const std::string& what);
  void log_step();
  void describe();
  void evaluate();
  void report(const StepRecord* record, const HeldOutRecord* held_out) const;
  bool is_time_to_save() const;
  void save();

  Trainer& t_;
  const TrainerOptions& o_;
  const StopSignals signals_;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  StepState state_;
  TrainStep step_;
  std::unique_ptr<Prefetcher> batches_;
  std::unique_ptr<MetricsLog> metrics_;
  DeadExperts dead_experts_;
  Batch last_batch_;       // kept for router_gradients
  StepRecord record_;      // of the step that was done last; record_.step counts all steps done
  int64_t read_step_ = 0;  // the step whose numbers record_ has
  int64_t targets_ = 0;    // since the last log line
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
  bool is_enough = false;
  while (record_.step < o_.steps && result.reason == StopReason::finished && !is_enough) {
    train_step();
    const bool logs = is_due(record_.step, o_.log_every) || record_.step == 1 || record_.step == o_.steps;
    if (logs && o_.log_every > 0) {
      log_step();
    } else {
      report(nullptr, nullptr);
    }
    is_enough = o_.is_enough && o_.is_enough();
    if (is_due(record_.step, o_.evaluate_every)) evaluate();
    if (is_time_to_save()) save();
    if (o_.max_minutes > 0 && seconds_since(started_) >= 60 * o_.max_minutes) result.reason = StopReason::out_of_time;
    if (signals_.received() != 0) result.reason = StopReason::interrupted;
  }
  if (result.reason != StopReason::interrupted && held_out_.step != record_.step) evaluate();
  read_step();
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
      state_.load_state(saved.schedule_state);
      record_.step = read_step_ = saved_step_ = saved.step;
      next_batch = saved.next_batch;
    }
    make_directories(o_.out);
    const std::string path = o_.out + "/metrics.jsonl";
    metrics_ = std::make_unique<MetricsLog>(path, record_.step);
    const Metrics before = read_metrics(path);
    if (!before.held_out.empty()) held_out_ = before.held_out.back();
    for (StepRecord line : before.steps) {
      if (!line.layers.empty()) dead_experts_.note(line.layers);
    }
  }
  if (!o_.record_routing.empty()) {
    make_directories(o_.record_routing);
    step_.record_routing();
  }
  batches_ = std::make_unique<Prefetcher>(t_.data_, next_batch, t_.device_);
  t_.model_.train();
}

void Trainer::Run::train_step() {
  const auto start = std::chrono::steady_clock::now();
  state_.advance(record_.step);
  record_ = {.step = record_.step, .loss = record_.loss, .lr = state_.host_lr};
  std::vector<Batch> batches;
  for (int64_t i = 0; i < o_.micro_batches; ++i) {
    batches.push_back(batches_->next());
    targets_ += targets_of(batches.back());
  }
  if (o_.router_gradients) last_batch_ = batches.back();
  if (!o_.replay_routing.empty())
    step_.replay_routing(load_routing(o_.replay_routing, record_.step + 1).micro_batches());
  try {
    step_.run(batches, state_);
  } catch (const ValueError& error) {
    fail<ValueError>("training stopped at step ", record_.step + 1, ": ", error.what());
  }
  ++record_.step;
  if (!o_.record_routing.empty()) save_routing(o_.record_routing, {record_.step, o_.micro_batches, step_.choices()});
  seconds_ += seconds_since(start);
  if (t_.device_.type == DeviceType::cpu || record_.step - read_step_ >= longest_unread) read_step();
}

// Takes the step's numbers to the host. On a GPU this is where a fault since the last time comes to light; the weights
// are still those before it, so the forwards since then are run again to find the step and the op.
void Trainer::Run::read_step() {
  if (read_step_ == record_.step) return;
  const auto start = std::chrono::steady_clock::now();
  try {
    const TrainStep::Values values = step_.read();
    record_.loss = values.loss;
    record_.aux_loss = values.aux;
    record_.grad_norm = values.grad_norm;
    read_step_ = record_.step;
  } catch (const ValueError& error) {
    explain(error.what());
  } catch (const IndexError& error) {
    explain(error.what());
  }
  seconds_ += seconds_since(start);
}

void Trainer::Run::explain(const std::string& what) {
  const int64_t first_batch = batches_->cursor() - (record_.step - read_step_) * o_.micro_batches;
  for (int64_t step = read_step_; step < record_.step; ++step) {
    std::vector<Batch> batches;
    for (int64_t i = 0; i < o_.micro_batches; ++i)
      batches.push_back(t_.data_->at(first_batch + (step - read_step_) * o_.micro_batches + i));
    set_random_step(random_step() - static_cast<uint64_t>(record_.step - step));
    const std::string stopped = message("training stopped at step ", step + 1, ": ", what, "; the first op: ");
    try {
      step_.find_first_op(batches);
    } catch (const ValueError& first) {
      fail<ValueError>(stopped, first.what());
    } catch (const IndexError& first) {
      fail<IndexError>(stopped, first.what());
    }
    set_random_step(random_step() + static_cast<uint64_t>(record_.step - step));
  }
  fail<ValueError>("training stopped between the steps ", read_step_ + 1, " and ", record_.step, ": ", what);
}

void Trainer::Run::log_step() {
  read_step();
  record_.tokens_per_second = static_cast<double>(targets_) / seconds_;
  describe();
  targets_ = 0;
  seconds_ = 0;
  if (metrics_) metrics_->write(record_);
  report(&record_, nullptr);
}

// What a log line says of experts and auxiliary losses.
void Trainer::Run::describe() {
  const TrainStep::Details details = step_.details();
  record_.aux_coefficient = details.coefficients[0].value_or(0);
  for (size_t i = 0; i < details.losses.size(); ++i) {
    if (!details.losses[i]) continue;
    record_.aux.push_back({nn::aux_loss_names[i], *details.losses[i], *details.coefficients[i],
                           state_.measured(static_cast<nn::AuxLoss>(i))});
  }
  record_.layers = details.layers;
  for (const LayerRecord& layer : record_.layers) {
    const double total = static_cast<double>(std::reduce(layer.pairs.begin(), layer.pairs.end()));
    std::vector<double>& load = record_.expert_load.emplace_back();
    for (const int64_t n : layer.pairs)
      load.push_back(total > 0 ? static_cast<double>(n) / total : 1 / static_cast<double>(layer.pairs.size()));
  }
  if (!record_.layers.empty()) dead_experts_.note(record_.layers);
  if (!o_.router_gradients || record_.layers.empty()) return;
  const std::vector<RouterGradient> routers = router_gradients(t_.model_, t_.loss_, last_batch_.to(t_.device_), state_);
  check<ValueError>(routers.size() == record_.layers.size(), "router_gradients: the model has ", routers.size(),
                    " routers and tells of ", record_.layers.size(), " layers");
  for (size_t l = 0; l < routers.size(); ++l) {
    record_.layers[l].router_grad_norm = routers[l].all;
    if (routers[l].task > 0) record_.layers[l].aux_to_task = routers[l].aux / routers[l].task;
  }
}

void Trainer::Run::evaluate() {
  if (o_.held_out.empty()) return;
  read_step();
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
  read_step();
  for (const auto& [name, parameter] : t_.model_.named_parameters()) {
    check<ValueError>(count_nonfinite(parameter) == 0, "training stopped at step ", record_.step, ": ", name,
                      " holds infinite or NaN values; no checkpoint was written");
  }
  metrics_->flush();
  const RunState now{record_.step, batches_->cursor(), to_text(o_.schedules), o_.notes, state_.state()};
  save_checkpoint(o_.out + "/checkpoints", t_.model_, t_.optimizer_, now, o_.keep_checkpoints);
  saved_step_ = record_.step;
  saved_ = std::chrono::steady_clock::now();
}

}  // namespace mahia::train
