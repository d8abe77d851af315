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

constexpr std::array<std::string_view, 6> names = {"constant",          "linear",    "cosine", "exponential",
                                                   "warmup_hold_decay", "milestones"};

// How far step is from `first` to `last`, in [0, 1].
double progress(int64_t step, int64_t first, int64_t last) {
  if (step >= last) return 1;
  return std::max(0.0, static_cast<double>(step - first) / static_cast<double>(last - first));
}

}  // namespace

double Schedule::at(int64_t step) const {
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup + 1);
  const double x = progress(step, warmup, steps);
  switch (kind) {
    case ScheduleKind::constant:
      return peak;
    case ScheduleKind::linear:
      return peak + (final - peak) * x;
    case ScheduleKind::cosine:
      return final + (peak - final) * (1 + std::cos(std::numbers::pi * x)) / 2;
    case ScheduleKind::exponential:
      return peak * std::pow(final / peak, x);
    case ScheduleKind::warmup_hold_decay:
      return step < warmup + hold ? peak : peak + (final - peak) * progress(step, warmup + hold, steps);
    case ScheduleKind::milestones: {
      const auto passed = std::count_if(milestones.begin(), milestones.end(), [&](int64_t m) { return step >= m; });
      return peak * std::pow(gamma, static_cast<double>(passed));
    }
  }
  return peak;
}

void Schedule::validate(std::string_view what) const {
  const bool timed = kind != ScheduleKind::constant && kind != ScheduleKind::milestones;
  check<ValueError>(std::isfinite(peak) && peak >= 0, what, ": peak is ", peak, ", must be a number >= 0");
  check<ValueError>(std::isfinite(final) && final >= 0, what, ": final is ", final, ", must be a number >= 0");
  check<ValueError>(warmup >= 0 && hold >= 0, what, ": warmup ", warmup, " and hold ", hold, " must be >= 0");
  check<ValueError>(!timed || steps > warmup + hold, what, ": ", name_of(kind), " ends at step ", steps,
                    ", inside its warm-up and hold of ", warmup + hold, " steps");
  check<ValueError>(kind != ScheduleKind::exponential || (peak > 0 && final > 0), what,
                    ": exponential needs peak and final above 0, got ", peak, " and ", final);
  check<ValueError>(kind != ScheduleKind::milestones || std::is_sorted(milestones.begin(), milestones.end()), what,
                    ": milestones must be in ascending order");
}

std::string to_text(const Schedule& s) {
  const auto exact = [](double x) {
    std::array<char, 32> digits;
    return std::string(digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), x).ptr);
  };
  std::string text = message(name_of(s.kind), " peak ", exact(s.peak), " final ", exact(s.final), " steps ", s.steps,
                             " warmup ", s.warmup, " hold ", s.hold, " gamma ", exact(s.gamma), " milestones [");
  for (const int64_t m : s.milestones) text += (text.back() == '[' ? "" : ", ") + std::to_string(m);
  return text + "]";
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
