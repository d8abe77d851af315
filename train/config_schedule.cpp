// SPDX-License-Identifier: Apache-2.0
#include "train/config_schedule.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace mahia::train {
namespace {

constexpr int64_t many = int64_t{1} << 40;

std::vector<std::string> kinds(bool closed_loops, bool sequences) {
  std::vector<std::string> names;
  for (const std::string_view name : schedule_names()) {
    const ScheduleKind kind = schedule_kind(name);
    const bool fits = (closed_loops || !is_closed_loop(kind)) && (sequences || kind != ScheduleKind::sequence);
    if (fits) names.emplace_back(name);
  }
  return names;
}

void add_open_loop(Fields& f, const std::string& section, ScheduleSettings& c) {
  Schedule& s = c.schedule;
  f.number(section + ".peak", s.peak, 0, 1e6);
  f.number(section + ".final", s.final, 0, 1e6);
  f.integer(section + ".steps", s.steps, 0, many);
  f.integer(section + ".warmup", s.warmup, 0, many);
  f.integer(section + ".hold", s.hold, 0, many);
  f.number(section + ".gamma", s.gamma, 0, 1e6);
  f.numbers(section + ".milestones", c.milestones, 0, static_cast<double>(many));
  f.number(section + ".power", s.power, 0, 1e3);
}

void add_closed_loop(Fields& f, const std::string& section, ScheduleSettings& c) {
  Feedback& feedback = c.schedule.feedback;
  f.choice(section + ".metric", c.metric, {nn::imbalance_names.begin(), nn::imbalance_names.end()});
  f.number(section + ".target", feedback.target, 0, 1e6);
  f.number(section + ".smoothing", feedback.smoothing, 0, 0.9999999);
  f.number(section + ".dead_band", feedback.dead_band, 0, 1e6);
  f.number(section + ".factor", feedback.factor, 1, 1e3);
  f.number(section + ".gain", feedback.gain, 0, 1e6);
  f.number(section + ".integral_gain", feedback.integral_gain, 0, 1e6);
  f.number(section + ".rate_limit", feedback.rate_limit, 0, 1e6);
  f.number(section + ".low", feedback.low, 0, 1e6);
  f.number(section + ".high", feedback.high, 0, 1e6);
  f.flag(section + ".per_layer", feedback.per_layer);
}

Fields stage_fields(const std::string& section, ScheduleSettings& stage) {
  Fields f;
  f.choice(section + ".schedule", stage.kind, kinds(false, false));
  add_open_loop(f, section, stage);
  return f;
}

void add_stages(Fields& f, const std::string& section, std::vector<ScheduleSettings>& stages) {
  f.tables(section, {.clear = [&stages] { stages.clear(); },
                     .size = [&stages] { return stages.size(); },
                     .at =
                         [&stages, section](size_t i) {
                           if (i == stages.size()) stages.emplace_back();
                           return stage_fields(section, stages[i]);
                         }});
}

}  // namespace

void add_schedule(Fields& f, const std::string& section, ScheduleSettings& c, bool is_coefficient, bool all) {
  f.choice(section + ".schedule", c.kind, kinds(is_coefficient, true));
  add_open_loop(f, section, c);
  if (is_coefficient && (all || is_closed_loop(schedule_kind(c.kind)))) add_closed_loop(f, section, c);
  if (is_coefficient) f.numbers(section + ".layers", c.schedule.layers, 0, 1e6);
  add_stages(f, section + ".stages", c.stages);
}

Schedule schedule_of(const ScheduleSettings& c, const std::string& section, int64_t run_steps) {
  Schedule s = c.schedule;
  s.kind = schedule_kind(c.kind);
  s.milestones.assign(c.milestones.begin(), c.milestones.end());
  const auto metric = std::ranges::find(nn::imbalance_names, c.metric);
  s.feedback.metric = static_cast<nn::Imbalance>(metric - nn::imbalance_names.begin());
  check<ValueError>(s.kind == ScheduleKind::sequence || c.stages.empty(), section,
                    ": stages are for schedule `sequence`, not `", c.kind, "`");
  int64_t left = run_steps;  // for the last stage
  for (size_t i = 0; i < c.stages.size(); ++i) {
    const int64_t end = i + 1 == c.stages.size() ? std::max<int64_t>(0, left) : 0;
    s.stages.push_back(schedule_of(c.stages[i], message(section, ".stages, number ", i + 1), end));
    left -= s.stages.back().steps;
  }
  if (s.steps == 0) s.steps = run_steps;
  s.validate(section);
  return s;
}

}  // namespace mahia::train
