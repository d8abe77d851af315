// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/tensor.hpp"
#include "schedule.hpp"

namespace mahia::train {

// Both schedules of a run: functions of the optimizer step alone.
struct Schedules {
  Schedule lr = {};
  Schedule aux = {.peak = 0.01};
};

// The numbers that change from step to step, as tensors on the model's device: kernels read them there, so a step that
// was captured once replays with new values. advance() refreshes them by one call.
class StepState {
 public:
  explicit StepState(Device device = cpu_device);
  // The values of optimizer step `step` (0, 1, ...). Throws CaptureError inside a StepGraph's step.
  const StepState& advance(int64_t step, const Schedules& schedules);

  Tensor lr;    // f64 []
  Tensor aux;   // f32 []: multiplies the auxiliary loss
  Tensor step;  // f64 []: the step's number counted from 1, for bias corrections
  // The same values on the host, for logging.
  double host_lr = 0, host_aux = 0;
  int64_t host_step = 0;

 private:
  Tensor values_;  // u8: what advance() writes; the others are views of it
};

}  // namespace mahia::train
