// SPDX-License-Identifier: Apache-2.0
#include "train/train_step.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/kernel.hpp"
#include "core/random.hpp"
#include "core/runtime.hpp"
#include "ops/binary.hpp"
#include "ops/cat.hpp"
#include "train/weighted_aux.hpp"

namespace mahia::train {
namespace {

constexpr size_t most_shapes = 8;  // of batches, each with a graph and its memory

std::string shapes_of(const std::vector<Batch>& batches) {
  std::string text;
  for (const Batch& batch : batches) {
    describe(text, batch.tokens);
    describe(text, batch.targets);
  }
  return text;
}

// Writes the values of a pinned batch over one of the same form on a GPU.
void upload(const Batch& from, const Batch& to) {
  const Device device = to.block->device();
  to.block->bump_version();
  runtime(device.type).copy_pinned(to.block->data(), device, from.block->data(), from.block->bytes());
}

bool has_form_of(const Tensor& a, const Tensor& b) {
  return a.defined() == b.defined() && (!a.defined() || (a.shape() == b.shape() && a.dtype() == b.dtype()));
}

bool fits(const std::vector<Batch>& batches, const std::vector<Batch>& inputs) {
  return std::equal(batches.begin(), batches.end(), inputs.begin(), inputs.end(), [](const Batch& a, const Batch& b) {
    return has_form_of(a.tokens, b.tokens) && has_form_of(a.targets, b.targets);
  });
}

bool is_cpu(Device device) { return device.type == DeviceType::cpu; }

// sum += x * share, without history.
void accumulate(Tensor& sum, const Tensor& x, double share = 1) {
  const NoGrad no_grad;
  const Tensor part = share == 1 ? x.detach() : x * share;
  sum = sum.defined() ? sum + part : part;
}

double mean_of(const Tensor& x) {
  const std::vector<double> values = x.to_vector<double>();
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace

TrainStep::TrainStep(const Trainer::Loss& loss, Optimizer& optimizer, const TrainerOptions& options, Device device)
    : loss_(loss),
      optimizer_(optimizer),
      max_grad_norm_(options.max_grad_norm > 0 ? options.max_grad_norm : std::numeric_limits<double>::infinity()),
      balance_rate_(options.balance_rate),
      device_(device),
      // Both look at results on the host after each op.
      capture_(options.capture && runtime(device.type).can_record(device) && !check_finite_enabled() &&
               !waiting_after_calls) {}

TrainStep::~TrainStep() {
  try {
    if (!in_flight_.empty()) synchronize(device_);
  } catch (const Error&) {  // what was wrong has been thrown already, or nobody asked
  }
}

void TrainStep::run(const std::vector<Batch>& batches, const StepState& state) {
  if (current_ == nullptr || !fits(batches, current_->inputs)) {
    const std::string shapes = shapes_of(batches);
    if (!records_.contains(shapes)) make_room_for(shapes);
    current_ = &records_[shapes];
  }
  Record& record = *current_;
  if (is_cpu(device_)) {
    record.inputs.clear();
    for (const Batch& batch : batches) record.inputs.push_back(batch.to(device_));
  } else if (record.inputs.empty()) {
    for (const Batch& batch : batches) record.inputs.push_back(batch.packed(device_));
  } else {
    for (size_t i = 0; i < batches.size(); ++i) {
      in_flight_.push_back(batches[i].block ? batches[i] : batches[i].pinned(device_));
      upload(in_flight_.back(), record.inputs[i]);
    }
  }
  if (!capture_) return work(record, state);
  const size_t places = optimizer_.places() ^ reinterpret_cast<uintptr_t>(state.lr.storage()->data());
  if (!record.graph || record.places != places) {  // the first time, or the model was moved meanwhile
    record.graph = std::make_unique<StepGraph>(device_);
    record.places = places;
  }
  if (record.graph->run([&] { work(record, state); })) optimizer_.count_step();
}

// Records are dropped for their memory; shapes that come back are recorded again.
void TrainStep::make_room_for(const std::string& shapes) {
  const bool comes_back = std::find(forgotten_.begin(), forgotten_.end(), shapes) != forgotten_.end();
  if (capture_ && comes_back && !has_warned_) {
    has_warned_ = true;
    warn(message("train: more than ", most_shapes,
                 " shapes of batches come by turns; graphs are kept for so many, so that steps are recorded again and "
                 "again or not at all: pad the batches to fewer shapes"));
  }
  if (records_.size() < most_shapes) return;
  forgotten_.clear();
  for (const auto& [shape, record] : records_) forgotten_.push_back(shape);
  records_.clear();
}

void TrainStep::work(Record& record, const StepState& state) {
  record.loss = record.aux = record.grad_norm = {};
  record.losses = record.coefficients = {};
  record.counts.clear();
  record.kept.clear();
  record.choices.clear();
  optimizer_.zero_grad();
  for (size_t i = 0; i < record.inputs.size(); ++i) {
    std::optional<nn::ReplayedRouting> replaying;
    if (!replayed_.empty()) replaying.emplace(replayed_.at(i));
    forward_and_backward(record, record.inputs[i], state);
    if (replaying) replaying->check_used_up();
  }
  record.grad_norm = clip_grad_norm(optimizer_, max_grad_norm_);
  if (is_cpu(device_)) {
    const double norm = record.grad_norm.item<double>();
    check<ValueError>(std::isfinite(norm), "the loss is finite, the norm of its gradients is ", norm);
  } else {
    kernels::check_finite(record.grad_norm, "the norm of the gradients, element");
  }
  optimizer_.step(state);
  observe(record, state);
}

void TrainStep::forward_and_backward(Record& record, const Batch& batch, const StepState& state) {
  const RandomCounts counts = random_counts();
  LossTerms terms;
  std::optional<nn::RecordedRouting> recording;
  if (records_routing_) recording.emplace(record.choices);
  try {
    terms = loss_(batch);
  } catch (const ValueError& error) {  // such as NaN logits, which a router refuses
    if (!is_cpu(device_)) throw;
    explain(batch, counts, error.what());
  }
  recording.reset();
  check_terms(terms, batch, counts);
  const double share = 1 / static_cast<double>(record.inputs.size());
  accumulate(record.loss, terms.loss, share);
  if (terms.aux.defined()) accumulate(record.aux, terms.aux, share);
  const Tensor all = total(record, terms, state, share);
  backward(share == 1 ? all : all * share);
  count(record, terms);
}

Tensor TrainStep::total(Record& record, const LossTerms& terms, const StepState& state, double share) const {
  const WeightedAux aux = weighted_aux(terms, state);
  for (size_t i = 0; i < aux.values.size(); ++i) {
    if (!aux.values[i].defined()) continue;
    accumulate(record.losses[i], aux.values[i], share);
    if (!record.coefficients[i].defined()) record.coefficients[i] = clone(aux.coefficients[i]);
  }
  return aux.sum.defined() ? terms.loss + aux.sum : terms.loss;
}

void TrainStep::count(Record& record, const LossTerms& terms) const {
  record.balance = terms.balance;
  record.last = terms.stats;
  record.counts.resize(terms.stats.size());
  record.kept.resize(terms.stats.size());
  for (size_t l = 0; l < terms.stats.size(); ++l) {
    accumulate(record.counts[l], terms.stats[l].counts);
    if (terms.stats[l].capacity > 0) accumulate(record.kept[l], terms.stats[l].kept);
  }
}

void TrainStep::observe(const Record& record, const StepState& state) const {
  const NoGrad no_grad;
  if (record.balance) record.balance(record.counts, balance_rate_);
  if (!state.observes()) return;
  check<ValueError>(!record.counts.empty(),
                    "a closed loop of the schedules follows the experts' load, and the loss tells of no experts");
  const bool has_capacity = std::ranges::all_of(record.kept, [](const Tensor& kept) { return kept.defined(); });
  state.observe(stack(record.counts), has_capacity ? stack(record.kept) : Tensor());
}

void TrainStep::check_terms(const LossTerms& terms, const Batch& batch, RandomCounts counts) const {
  if (!is_cpu(device_)) {
    kernels::check_finite(terms.loss, "the loss, element");
    if (terms.aux.defined()) kernels::check_finite(terms.aux, "the auxiliary loss, element");
    return;
  }
  const double loss = terms.loss.item<double>(), aux = terms.aux.defined() ? terms.aux.item<double>() : 0;
  if (!std::isfinite(loss)) explain(batch, std::move(counts), message("the loss is ", loss));
  if (!std::isfinite(aux)) explain(batch, std::move(counts), message("the auxiliary loss is ", aux));
}

// Runs the forward again with the same random numbers and looks at every op's result.
void TrainStep::explain(const Batch& batch, RandomCounts counts, const std::string& what) const {
  set_random_counts(std::move(counts));
  try {
    find_first_op({batch});
  } catch (const ValueError& first) {
    check<ValueError>(first.what() == what, what, "; the first op: ", first.what());
  }
  fail<ValueError>(what);
}

void TrainStep::find_first_op(const std::vector<Batch>& batches) const {
  const CheckFinite checking;
  for (const Batch& batch : batches) loss_(batch.to(device_));
}

void TrainStep::replay_routing(std::vector<nn::RouterChoices> choices) {
  capture_ = false;  // a record would replay its first choices for ever
  replayed_ = std::move(choices);
  for (nn::RouterChoices& batch : replayed_) {
    for (nn::RouterChoice& choice : batch) choice.indices = copy_to(choice.indices, device_, DType::i64);
  }
}

TrainStep::Values TrainStep::read() {
  Values values;
  if (current_ == nullptr) return values;
  values.loss = current_->loss.item<double>();
  if (current_->aux.defined()) values.aux = current_->aux.item<double>();
  values.grad_norm = current_->grad_norm.item<double>();
  in_flight_.clear();
  return values;
}

TrainStep::Details TrainStep::details() const {
  Details details;
  if (current_ == nullptr) return details;
  for (size_t i = 0; i < details.losses.size(); ++i) {
    if (!current_->losses[i].defined()) continue;
    details.losses[i] = mean_of(current_->losses[i]);
    details.coefficients[i] = mean_of(current_->coefficients[i]);
  }
  for (size_t l = 0; l < current_->counts.size(); ++l)
    details.layers.push_back(layer_record(current_->counts[l], current_->last[l]));
  return details;
}

}  // namespace mahia::train
