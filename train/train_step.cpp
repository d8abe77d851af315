// SPDX-License-Identifier: Apache-2.0
#include "train/train_step.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/kernel.hpp"
#include "core/random.hpp"
#include "core/runtime.hpp"
#include "ops/binary.hpp"

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
void accumulate(Tensor& sum, const Tensor& x, double share) {
  const NoGrad no_grad;
  const Tensor part = share == 1 ? x.detach() : x * share;
  sum = sum.defined() ? sum + part : part;
}

}  // namespace

TrainStep::TrainStep(const Trainer::Loss& loss, Optimizer& optimizer, double max_grad_norm, Device device, bool capture)
    : loss_(loss),
      optimizer_(optimizer),
      max_grad_norm_(max_grad_norm > 0 ? max_grad_norm : std::numeric_limits<double>::infinity()),
      device_(device),
      // Both look at results on the host after each op.
      capture_(capture && runtime(device.type).can_record(device) && !check_finite_enabled() && !waiting_after_calls) {}

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
  optimizer_.zero_grad();
  for (const Batch& batch : record.inputs) forward_and_backward(record, batch, state);
  record.grad_norm = clip_grad_norm(optimizer_, max_grad_norm_);
  if (is_cpu(device_)) {
    const double norm = record.grad_norm.item<double>();
    check<ValueError>(std::isfinite(norm), "the loss is finite, the norm of its gradients is ", norm);
  } else {
    kernels::check_finite(record.grad_norm, "the norm of the gradients, element");
  }
  optimizer_.step(state);
}

void TrainStep::forward_and_backward(Record& record, const Batch& batch, const StepState& state) {
  const RandomCounts counts = random_counts();
  LossTerms terms;
  try {
    terms = loss_(batch);
  } catch (const ValueError& error) {  // such as NaN logits, which a router refuses
    if (!is_cpu(device_)) throw;
    explain(batch, counts, error.what());
  }
  check_terms(terms, batch, counts);
  const double share = 1 / static_cast<double>(record.inputs.size());
  accumulate(record.loss, terms.loss, share);
  if (terms.aux.defined()) accumulate(record.aux, terms.aux, share);
  const Tensor total = terms.aux.defined() ? terms.loss + state.aux * terms.aux : terms.loss;
  backward(share == 1 ? total : total * share);
  record.last = {{}, {}, std::move(terms.load)};
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

TrainStep::Values TrainStep::read() {
  Values values;
  if (current_ == nullptr) return values;
  values.loss = current_->loss.item<double>();
  if (current_->aux.defined()) values.aux = current_->aux.item<double>();
  values.grad_norm = current_->grad_norm.item<double>();
  in_flight_.clear();
  return values;
}

std::vector<std::vector<double>> TrainStep::load() const {
  return current_ != nullptr && current_->last.load ? current_->last.load() : std::vector<std::vector<double>>();
}

}  // namespace mahia::train
