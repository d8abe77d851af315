// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../nn/module.hpp"
#include "schedule.hpp"

namespace mahia::train {

// What a closed loop remembers, f64 of one shape: [], or (L) with a loop for each layer.
struct FeedbackState {
  Tensor value;     // the coefficient a of the next step
  Tensor ema;       // of the measured imbalance
  Tensor integral;  // of a pi loop
};
// At the schedule's beginning.
FeedbackState feedback_start(const Schedule& schedule, Device device);
// After one optimizer step: a pure function of the schedule, the number `step` of the step (f64 [], counted from 1),
// the state, and the imbalance that the step measured in each layer, f64 (L). New tensors on their device, no wait, no
// gradient. Throws ShapeError where the schedule has a loop for each of another number of layers.
FeedbackState feedback_next(const Schedule& schedule, const Tensor& step, const FeedbackState& state,
                            const Tensor& measured);
// Writes `from` over `to`; on a GPU not after a fault.
void commit(const FeedbackState& from, const FeedbackState& to);
// As a checkpoint has it: "PREFIX.value", "PREFIX.ema", "PREFIX.integral".
nn::NamedTensors named(const FeedbackState& state, const std::string& prefix);

}  // namespace mahia::train
