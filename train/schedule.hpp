// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mahia::train {

enum class ScheduleKind { constant, linear, cosine, exponential, warmup_hold_decay, milestones };

// A number as a pure function of the optimizer step: for learning rates and for auxiliary-loss coefficients. It has no
// state, so a resumed run sees the same values. Steps count from 0.
struct Schedule {
  ScheduleKind kind = ScheduleKind::constant;
  double peak = 1e-3;  // the value the warm-up leads to; a constant schedule stays there
  double final = 0;    // the value at `steps` and after it (linear, cosine, exponential, warmup_hold_decay)
  int64_t steps = 0;   // the step at which `final` is reached
  int64_t warmup = 0;  // steps of linear increase before any of the forms: peak * (step + 1) / (warmup + 1)
  int64_t hold = 0;    // warmup_hold_decay: steps at the peak between warm-up and linear decay
  double gamma = 0.1;  // milestones: factor at each of them
  std::vector<int64_t> milestones = {};

  // With x = (step - warmup) / (steps - warmup) in [0, 1]:
  //   linear       peak + (final - peak) x
  //   cosine       final + (peak - final) (1 + cos(pi x)) / 2
  //   exponential  peak (final / peak)^x
  double at(int64_t step) const;
  // Throws ValueError, naming `what`, for values that no step could use.
  void validate(std::string_view what) const;
};

// All settings in one line, numbers exactly: equal texts are equal schedules.
std::string to_text(const Schedule& schedule);

std::string_view name_of(ScheduleKind kind);
// Throws ValueError for an unknown name, listing the known ones.
ScheduleKind schedule_kind(std::string_view name);
std::vector<std::string_view> schedule_names();

}  // namespace mahia::train
