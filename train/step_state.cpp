// SPDX-License-Identifier: Apache-2.0
#include "train/step_state.hpp"

#include <algorithm>
#include <cstring>

#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/graph.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/reduce.hpp"

namespace mahia::train {
namespace {

constexpr size_t losses = nn::aux_loss_names.size();

nn::AuxLoss loss_at(size_t i) { return static_cast<nn::AuxLoss>(i); }
std::string name_of(size_t i) { return std::string("aux.") + nn::aux_loss_names[i]; }

// The numbers as they lie on the device.
struct Numbers {
  double lr, step;
  float coefficients[losses];
};

}  // namespace

const Schedule& AuxSchedules::operator[](nn::AuxLoss kind) const {
  const std::array<const Schedule*, losses> all = {&balance, &sequence, &importance, &z_loss, &entropy, &variance};
  return *all[static_cast<size_t>(kind)];
}

Schedule& AuxSchedules::operator[](nn::AuxLoss kind) {
  return const_cast<Schedule&>(static_cast<const AuxSchedules&>(*this)[kind]);
}

nn::AuxLossSet wanted_losses(const AuxSchedules& schedules) {
  nn::AuxLossSet wanted;
  for (size_t i = 0; i < losses; ++i) {
    if (schedules[loss_at(i)].is_on()) wanted.insert(loss_at(i));
  }
  return wanted;
}

void Schedules::validate() const {
  lr.validate("lr");
  check<ValueError>(!is_closed_loop(lr.kind) && lr.layers.empty(), "lr: ", train::name_of(lr.kind),
                    lr.layers.empty() ? " is for coefficients of auxiliary losses" : ": has no factors for layers");
  for (size_t i = 0; i < losses; ++i) aux[loss_at(i)].validate(name_of(i));
}

std::string to_text(const Schedules& s) {
  std::string text = "lr " + to_text(s.lr);
  for (size_t i = 0; i < losses; ++i) {
    const Schedule& schedule = s.aux[loss_at(i)];
    if (schedule.is_on()) text += "; " + name_of(i) + " " + to_text(schedule);
  }
  return text;
}

StepState::StepState(const Schedules& schedules, Device device)
    : schedules_(schedules), values_(zeros({sizeof(Numbers)}, DType::u8, device)) {
  schedules.validate();
  lr = Tensor(values_.storage(), {}, {}, offsetof(Numbers, lr) / sizeof(double), DType::f64);
  step = Tensor(values_.storage(), {}, {}, offsetof(Numbers, step) / sizeof(double), DType::f64);
  for (size_t i = 0; i < losses; ++i) {
    const Schedule& schedule = schedules_.aux[loss_at(i)];
    coefficients_[i] = Tensor(values_.storage(), {}, {},
                              static_cast<int64_t>(offsetof(Numbers, coefficients) / sizeof(float) + i), DType::f32);
    if (!schedule.layers.empty()) {
      const std::vector<float> factors(schedule.layers.begin(), schedule.layers.end());
      layer_factors_[i] = Tensor::from(factors, {std::ssize(factors)}, device);
    }
    if (!is_closed_loop(schedule.kind)) continue;
    loops_.push_back({loss_at(i), feedback_start(schedule, device)});
    coefficients_[i] = copy_to(loops_.back().state.value, device, DType::f32);
  }
  aux = coefficients_[static_cast<size_t>(nn::AuxLoss::balance)];
}

const Tensor& StepState::shown(const Loop& loop) const { return coefficients_[static_cast<size_t>(loop.kind)]; }

const StepState& StepState::advance(int64_t number) {
  check<CaptureError>(!StepGraph::is_running(),
                      "StepState: advance() inside a step that is captured: a replay would see step ", number,
                      " for ever; call it before StepGraph::run");
  host_step = number;
  host_lr = schedules_.lr.at(number);
  Numbers now{host_lr, static_cast<double>(number + 1), {}};
  for (size_t i = 0; i < losses; ++i) now.coefficients[i] = static_cast<float>(schedules_.aux[loss_at(i)].at(number));
  kernels::FewBytes bytes;
  static_assert(sizeof(now) <= sizeof(bytes));
  std::memcpy(bytes.data(), &now, sizeof(now));
  kernels::set_bytes(values_.mutable_view(), bytes);
  return *this;
}

Tensor StepState::coefficient(nn::AuxLoss kind) const {
  const NoGrad no_grad;
  const auto i = static_cast<size_t>(kind);
  return layer_factors_[i].defined() ? coefficients_[i] * layer_factors_[i] : coefficients_[i];
}

void StepState::observe(const Tensor& counts, const Tensor& kept) const {
  for (const Loop& loop : loops_) {
    const Schedule& schedule = schedules_.aux[loop.kind];
    const Tensor measured = nn::imbalance(schedule.feedback.metric, counts, kept);
    commit(feedback_next(schedule, step, loop.state, measured), loop.state);
    mahia::commit(loop.state.value, shown(loop));
  }
}

std::optional<double> StepState::measured(nn::AuxLoss kind) const {
  const auto loop = std::ranges::find(loops_, kind, &Loop::kind);
  if (loop == loops_.end()) return {};
  const NoGrad no_grad;
  return mean(loop->state.ema).item<double>();
}

nn::NamedTensors StepState::state() const {
  nn::NamedTensors all;
  for (const Loop& loop : loops_) {
    for (auto& entry : named(loop.state, name_of(static_cast<size_t>(loop.kind)))) all.push_back(std::move(entry));
  }
  return all;
}

void StepState::load_state(const nn::NamedTensors& given) {
  const nn::NamedTensors mine = state();
  std::vector<Tensor> found;
  std::string problems;
  for (const auto& [name, tensor] : mine) {
    const auto at = std::ranges::find(given, name, &nn::NamedTensors::value_type::first);
    if (at == given.end()) {
      problems += message("\n  missing: ", name, ": ", tensor);
    } else if (at->second.shape() != tensor.shape() || at->second.dtype() != tensor.dtype()) {
      problems += message("\n  ", name, ": the schedule has ", tensor, ", the file has ", at->second);
    } else {
      found.push_back(at->second);
    }
  }
  if (given.size() > mine.size()) problems += message("\n  ", given.size() - mine.size(), " unexpected names");
  check<ValueError>(problems.empty(), "schedules: nothing was loaded:", problems);
  for (size_t i = 0; i < mine.size(); ++i) overwrite(found[i], mine[i].second);
  for (const Loop& loop : loops_) overwrite(loop.state.value, shown(loop));
}

}  // namespace mahia::train
