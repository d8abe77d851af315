// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "config.hpp"
#include "metrics.hpp"

namespace mahia::train {

// The pictures of a run, by the names of their files: loss.svg and expert_load.svg always; with experts
// max_violation.svg, where they have a capacity drop_rate.svg; with weighted auxiliary losses coefficients.svg; where
// the gradients of the routers were measured aux_to_task.svg.
std::vector<std::pair<std::string, std::string>> run_charts(const RunConfig& config, const Metrics& metrics);

}  // namespace mahia::train
