// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "../nn/aux_loss.hpp"
#include "feedback.hpp"

namespace mahia::train {

// The coefficient of each auxiliary loss; all but the Switch loss begin switched off.
struct AuxSchedules {
  Schedule balance = {.peak = 0.01};
  Schedule sequence = {.peak = 0}, importance = {.peak = 0}, z_loss = {.peak = 0}, entropy = {.peak = 0},
           variance = {.peak = 0};
  const Schedule& operator[](nn::AuxLoss kind) const;
  Schedule& operator[](nn::AuxLoss kind);
};
// Those that are switched on.
nn::AuxLossSet wanted_losses(const AuxSchedules& schedules);

// All schedules of a run.
struct Schedules {
  Schedule lr = {};
  AuxSchedules aux = {};
  // Throws ValueError for values that no step could use, and for a closed loop or layers of the learning rate.
  void validate() const;
};
// Equal texts are equal schedules.
std::string to_text(const Schedules& schedules);

// The numbers that change from step to step, as tensors on the model's device: kernels read them there, so a step that
// was captured once replays with new values. advance() refreshes those that depend on the step alone by one call; the
// closed loops change theirs on the device, in observe().
class StepState {
 public:
  // Throws ValueError for schedules that no step could use.
  explicit StepState(const Schedules& schedules = Schedules(), Device device = cpu_device);
  // The values of optimizer step `step` (0, 1, ...). Throws CaptureError inside a StepGraph's step.
  const StepState& advance(int64_t step);
  // What multiplies a loss: f32 [], or (L) where its schedule tells the layers apart.
  Tensor coefficient(nn::AuxLoss kind) const;
  bool wants(nn::AuxLoss kind) const { return schedules_.aux[kind].is_on(); }

  // Lets the closed loops see the step's pairs per expert: after the optimizer's step, once, before the next advance().
  // Operands as nn::imbalance has them, and throws as it does. Does nothing without a closed loop.
  void observe(const Tensor& counts, const Tensor& kept = {}) const;
  bool observes() const { return !loops_.empty(); }
  // Of the closed loops, as a checkpoint keeps it: "aux.switch.value" and so on. load_state() throws ValueError for
  // another set of names or shapes and changes nothing then.
  nn::NamedTensors state() const;
  void load_state(const nn::NamedTensors& state);

  Tensor lr;    // f64 []
  Tensor aux;   // f32 []: the Switch loss's coefficient, but for factors of layers; (L) with a loop for each layer
  Tensor step;  // f64 []: the step's number counted from 1, for bias corrections
  // On the host, for logging. `measured` is what a loss's closed loop has smoothed so far, the mean of its loops;
  // nothing without one. It waits.
  std::optional<double> measured(nn::AuxLoss kind) const;
  const Schedules& schedules() const { return schedules_; }
  double host_lr = 0;
  int64_t host_step = 0;

 private:
  struct Loop {
    nn::AuxLoss kind;
    FeedbackState state;
  };
  const Tensor& shown(const Loop& loop) const;  // the loop's value as the coefficient, f32

  Schedules schedules_;
  Tensor values_;                                                // u8: what advance() writes
  std::array<Tensor, nn::aux_loss_names.size()> coefficients_;   // views of it, or values of loops
  std::array<Tensor, nn::aux_loss_names.size()> layer_factors_;  // (L), or undefined
  std::vector<Loop> loops_;
};

}  // namespace mahia::train
