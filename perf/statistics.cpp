// SPDX-License-Identifier: Apache-2.0
#include "perf/statistics.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"

namespace mahia::perf {

Spread spread_of(std::vector<double> sample) {
  check<ValueError>(!sample.empty(), "spread_of: the sample is empty");
  std::sort(sample.begin(), sample.end());
  const auto quantile = [&](double q) {
    const double place = q * static_cast<double>(sample.size() - 1);
    const auto below = static_cast<size_t>(place), above = std::min(below + 1, sample.size() - 1);
    return std::lerp(sample[below], sample[above], place - std::floor(place));
  };
  return {sample.front(), quantile(0.25), quantile(0.5), quantile(0.75), sample.back()};
}

}  // namespace mahia::perf
