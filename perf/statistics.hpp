// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

namespace mahia::perf {

// Five numbers of a sample, in the sample's unit.
struct Spread {
  double minimum = 0, first_quartile = 0, median = 0, third_quartile = 0, maximum = 0;
};

// Quartiles by linear interpolation between order statistics. Throws ValueError for an empty sample.
Spread spread_of(std::vector<double> sample);

}  // namespace mahia::perf
