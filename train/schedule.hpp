// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "../nn/imbalance.hpp"

namespace mahia::train {

enum class ScheduleKind {
  // Functions of the step alone.
  constant,
  linear,
  cosine,
  exponential,
  polynomial,
  warmup_hold_decay,
  milestones,
  sequence,
  // Closed loops, for auxiliary-loss coefficients: they follow a measured imbalance.
  sign,
  dual_ascent,
  pi,
};
constexpr bool is_closed_loop(ScheduleKind kind) { return kind >= ScheduleKind::sign; }

// How a closed loop changes its coefficient a once per optimizer step: e = ema(m) - target, m the measured imbalance.
//   sign         a <- a factor^sign(e)
//   dual_ascent  a <- a + gain e
//   pi           I <- I + integral_gain e, then ln a <- ln peak + gain e + I
struct Feedback {
  nn::Imbalance metric = nn::Imbalance::max_violation;
  double target = 0.1;            // in the metric's unit
  double smoothing = 0.9;         // ema <- smoothing ema + (1 - smoothing) m; the first m begins it
  double dead_band = 0;           // e counts as 0 where |e| does not exceed it
  double factor = 1.02;           // sign
  double gain = 0.01;             // dual_ascent, pi
  double integral_gain = 1e-3;    // pi; I stands still where a limit holds a back from where e drives it
  double rate_limit = 0;          // the most that a (dual_ascent) or ln a (pi) changes in a step; 0: no limit
  double low = 1e-6, high = 100;  // a stays in [low, high]
  bool per_layer = false;         // a loop for each layer; else one for the mean of the layers' m
};

// A number as a pure function of the optimizer step: for learning rates and for auxiliary-loss coefficients. It has no
// state, so a resumed run sees the same values. Steps count from 0. (Closed loops have one: see feedback.hpp.)
struct Schedule {
  ScheduleKind kind = ScheduleKind::constant;
  double peak = 1e-3;  // the value the warm-up leads to; a constant schedule stays there, a closed loop begins there
  double final = 0;    // the value at `steps` and after it (linear to warmup_hold_decay)
  int64_t steps = 0;   // the step at which `final` is reached; the length of a sequence's stage
  int64_t warmup = 0;  // steps of linear increase before any of the forms: peak * (step + 1) / (warmup + 1)
  int64_t hold = 0;    // steps at the peak after the warm-up, before the way to `final` or a closed loop begins
  double gamma = 0.1;  // milestones: factor at each of them
  std::vector<int64_t> milestones = {};
  double power = 1;                   // polynomial
  std::vector<Schedule> stages = {};  // sequence: one after the other, each its `steps` long and counting from its
                                      // own 0; the last one has no end
  Feedback feedback = {};             // closed loops
  std::vector<double> layers = {};    // auxiliary-loss coefficients: a factor for each layer; none: 1

  // With x = (step - warmup - hold) / (steps - warmup - hold) in [0, 1]:
  //   linear, warmup_hold_decay  peak + (final - peak) x
  //   cosine                     final + (peak - final) (1 + cos(pi x)) / 2
  //   exponential                peak (final / peak)^x
  //   polynomial                 final + (peak - final) (1 - x)^power
  // A closed loop gives where it begins.
  double at(int64_t step) const;
  // Throws ValueError, naming `what`, for values that no step could use.
  void validate(std::string_view what) const;
  // Whether it is anything but 0 for ever.
  bool is_on() const { return kind != ScheduleKind::constant || peak != 0; }
};

// All settings in one line, numbers exactly: equal texts are equal schedules.
std::string to_text(const Schedule& schedule);

std::string_view name_of(ScheduleKind kind);
// Throws ValueError for an unknown name, listing the known ones.
ScheduleKind schedule_kind(std::string_view name);
std::vector<std::string_view> schedule_names();

}  // namespace mahia::train
