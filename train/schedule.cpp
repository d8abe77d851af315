// SPDX-License-Identifier: Apache-2.0
#include "train/schedule.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <numbers>

#include "core/error.hpp"

namespace mahia::train {
namespace {

constexpr std::array<std::string_view, 11> names = {
    "constant",   "linear",   "cosine", "exponential", "polynomial", "warmup_hold_decay",
    "milestones", "sequence", "sign",   "dual_ascent", "pi"};

// How far step is from `first` to `last`, in [0, 1].
double progress(int64_t step, int64_t first, int64_t last) {
  if (step >= last) return 1;
  return std::max(0.0, static_cast<double>(step - first) / static_cast<double>(last - first));
}

// The value of the stage that `step` falls into.
double stage_at(const std::vector<Schedule>& stages, int64_t step) {
  size_t i = 0;
  for (; i + 1 < stages.size() && step >= stages[i].steps; ++i) step -= stages[i].steps;
  return stages[i].at(step);
}

bool is_positive(double x) { return std::isfinite(x) && x > 0; }
bool is_not_negative(double x) { return std::isfinite(x) && x >= 0; }

void validate_loop(const Schedule& s, std::string_view what) {
  const Feedback& f = s.feedback;
  const bool is_ratio = s.kind != ScheduleKind::dual_ascent;  // works on ln a
  check<ValueError>(is_not_negative(f.target) && is_not_negative(f.dead_band) && is_not_negative(f.rate_limit), what,
                    ": target ", f.target, ", dead_band ", f.dead_band, " and rate_limit ", f.rate_limit,
                    " must be numbers >= 0");
  check<ValueError>(f.smoothing >= 0 && f.smoothing < 1, what, ": smoothing is ", f.smoothing, ", must be in [0, 1)");
  check<ValueError>(is_not_negative(f.low) && std::isfinite(f.high) && f.low <= s.peak && s.peak <= f.high, what,
                    ": begins at peak ", s.peak, ", which must lie in [low, high] = [", f.low, ", ", f.high, "]");
  check<ValueError>(!is_ratio || is_positive(f.low), what, ": ", name_of(s.kind), " needs low above 0, got ", f.low);
  check<ValueError>(s.kind != ScheduleKind::sign || (std::isfinite(f.factor) && f.factor > 1), what, ": factor is ",
                    f.factor, ", must exceed 1");
  check<ValueError>(s.kind == ScheduleKind::sign || (is_not_negative(f.gain) && is_not_negative(f.integral_gain)), what,
                    ": gain ", f.gain, " and integral_gain ", f.integral_gain, " must be numbers >= 0");
  check<ValueError>(s.warmup == 0, what, ": a closed loop has no warm-up; it begins to change after `hold` steps");
  check<ValueError>(!f.per_layer || !s.layers.empty(), what, ": per_layer needs `layers`, a factor for each layer");
}

void validate_stages(const std::vector<Schedule>& stages, std::string_view what) {
  check<ValueError>(!stages.empty(), what, ": a sequence needs stages");
  for (size_t i = 0; i < stages.size(); ++i) {
    const std::string stage = message(what, ", stage ", i + 1);
    stages[i].validate(stage);
    check<ValueError>(!is_closed_loop(stages[i].kind) && stages[i].layers.empty(), stage,
                      ": is a function of the step alone; closed loops and layers stand outside of sequences");
    check<ValueError>(stages[i].steps >= 1 || i + 1 == stages.size(), stage, ": needs its length in `steps`");
  }
}

// The shortest text that reads back as x.
std::string exact(double x) {
  std::array<char, 32> digits;
  return {digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), x).ptr};
}

std::string list(const auto& values, const auto& text_of) {
  std::string text = "[";
  for (const auto& value : values) text += (text.size() == 1 ? "" : ", ") + text_of(value);
  return text + "]";
}

std::string to_text(const Feedback& f) {
  return message(" metric ", nn::imbalance_names[static_cast<size_t>(f.metric)], " target ", exact(f.target),
                 " smoothing ", exact(f.smoothing), " dead_band ", exact(f.dead_band), " factor ", exact(f.factor),
                 " gain ", exact(f.gain), " integral_gain ", exact(f.integral_gain), " rate_limit ",
                 exact(f.rate_limit), " low ", exact(f.low), " high ", exact(f.high), " per_layer ", f.per_layer);
}

}  // namespace

double Schedule::at(int64_t step) const {
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup + 1);
  const double x = progress(step, warmup + hold, steps);
  switch (kind) {
    case ScheduleKind::linear:
    case ScheduleKind::warmup_hold_decay:
      return peak + (final - peak) * x;
    case ScheduleKind::cosine:
      return final + (peak - final) * (1 + std::cos(std::numbers::pi * x)) / 2;
    case ScheduleKind::exponential:
      return peak * std::pow(final / peak, x);
    case ScheduleKind::polynomial:
      return final + (peak - final) * std::pow(1 - x, power);
    case ScheduleKind::milestones: {
      const auto passed = std::count_if(milestones.begin(), milestones.end(), [&](int64_t m) { return step >= m; });
      return peak * std::pow(gamma, static_cast<double>(passed));
    }
    case ScheduleKind::sequence:
      return stage_at(stages, step);
    default:
      return peak;
  }
}

void Schedule::validate(std::string_view what) const {
  const bool timed = kind >= ScheduleKind::linear && kind <= ScheduleKind::warmup_hold_decay;
  check<ValueError>(is_not_negative(peak), what, ": peak is ", peak, ", must be a number >= 0");
  check<ValueError>(is_not_negative(final), what, ": final is ", final, ", must be a number >= 0");
  check<ValueError>(warmup >= 0 && hold >= 0, what, ": warmup ", warmup, " and hold ", hold, " must be >= 0");
  check<ValueError>(!timed || steps > warmup + hold, what, ": ", name_of(kind), " ends at step ", steps,
                    ", inside its warm-up and hold of ", warmup + hold, " steps");
  check<ValueError>(kind != ScheduleKind::exponential || (peak > 0 && final > 0), what,
                    ": exponential needs peak and final above 0, got ", peak, " and ", final);
  check<ValueError>(kind != ScheduleKind::polynomial || is_positive(power), what, ": power is ", power,
                    ", must be above 0");
  check<ValueError>(kind != ScheduleKind::milestones || std::is_sorted(milestones.begin(), milestones.end()), what,
                    ": milestones must be in ascending order");
  check<ValueError>(std::ranges::all_of(layers, is_not_negative), what, ": the factors in layers must be numbers >= 0");
  check<ValueError>(kind != ScheduleKind::sequence || warmup == 0, what, ": a sequence warms up in its first stage");
  if (kind == ScheduleKind::sequence) validate_stages(stages, what);
  if (is_closed_loop(kind)) validate_loop(*this, what);
}

std::string to_text(const Schedule& s) {
  std::string text =
      message(name_of(s.kind), " peak ", exact(s.peak), " final ", exact(s.final), " steps ", s.steps, " warmup ",
              s.warmup, " hold ", s.hold, " gamma ", exact(s.gamma), " milestones ",
              list(s.milestones, [](int64_t m) { return std::to_string(m); }), " power ", exact(s.power));
  if (!s.stages.empty()) text += " stages " + list(s.stages, [](const Schedule& stage) { return to_text(stage); });
  if (!s.layers.empty()) text += " layers " + list(s.layers, exact);
  return is_closed_loop(s.kind) ? text + to_text(s.feedback) : text;
}

std::string_view name_of(ScheduleKind kind) { return names[static_cast<size_t>(kind)]; }

std::vector<std::string_view> schedule_names() { return {names.begin(), names.end()}; }

ScheduleKind schedule_kind(std::string_view name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found != names.end()) return static_cast<ScheduleKind>(found - names.begin());
  std::string known;
  for (const std::string_view n : names) known += (known.empty() ? "" : ", ") + std::string(n);
  fail<ValueError>("schedule: unknown `", name, "`; known: ", known);
}

}  // namespace mahia::train
