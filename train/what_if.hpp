// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "routing_files.hpp"

namespace mahia::train {

struct WhatIfOptions {
  std::vector<double> capacities = {1, 1.25, 1.5, 2};  // factors
  std::vector<int64_t> devices = {2, 4, 8};            // how many share a layer's experts
};

// What recorded routing would have met with, per layer: means over the recorded micro-batches.
struct WhatIf {
  struct Capacity {
    double factor = 0;
    double drop_rate = 0;                                     // of all pairs
    double first_by_position = 0, first_by_choice_major = 0;  // of the first choices, by slot priority
  };
  // The busiest device's pairs over the mean of all, minus 1: experts in order, and placed by their total load.
  struct Devices {
    int64_t count = 0;
    double in_order = 0, by_load = 0;
  };
  int64_t num_experts = 0, top_k = 0;
  std::vector<int64_t> pairs = {};  // per expert, in all
  double max_violation = 0;         // MaxVio
  int64_t unused = 0;               // experts without a pair in all
  std::vector<Capacity> capacities = {};
  std::vector<Devices> devices = {};
};
// Reads every step of a folder. Throws IoError, and ValueError for steps of different models, a factor that is no
// capacity, and a number of devices below 1.
std::vector<WhatIf> what_if(const std::string& folder, const WhatIfOptions& options);
// As a table, and as JSON.
std::string to_table(const std::vector<WhatIf>& layers);
std::string to_json(const std::vector<WhatIf>& layers);

// The device of each expert: no device holds more than ceil(E / devices), and the experts with the most pairs are
// placed first, each at the device with the fewest so far.
std::vector<int64_t> placed_by_load(const std::vector<int64_t>& pairs, int64_t devices);

}  // namespace mahia::train
