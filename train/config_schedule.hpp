// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "fields.hpp"
#include "schedule.hpp"

namespace mahia::train {

// A schedule as a configuration says it.
struct ScheduleSettings {
  Schedule schedule = {};
  std::string kind = "constant", metric = "max_violation";
  std::vector<double> milestones = {};
  std::vector<ScheduleSettings> stages = {};
};
// The fields of a schedule, from `SECTION.schedule` on. Those of closed loops are for coefficients of auxiliary losses,
// and without `all` only where they mean something.
void add_schedule(Fields& fields, const std::string& section, ScheduleSettings& settings, bool is_coefficient,
                  bool all);
// What the settings say; a schedule that names no end ends with the run. Throws ValueError naming `section`.
Schedule schedule_of(const ScheduleSettings& settings, const std::string& section, int64_t run_steps);

}  // namespace mahia::train
