// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

namespace mahia::cpu {

struct UnitNumber {
  double re, im;
};

// exp(-2 pi i turn / den) for turn >= 0 and den > 0. The angle is first folded into an eighth of a turn, in whole
// numbers, so that it is exact however many turns it makes.
inline UnitNumber unit_number(int64_t turn, int64_t den) {
  const int64_t eighths = turn % den * 8, octant = eighths / den;
  const int64_t rest = octant % 2 == 0 ? eighths - octant * den : (octant + 1) * den - eighths;
  const double angle = std::numbers::pi / 4 * (static_cast<double>(rest) / static_cast<double>(den));
  const double c = std::cos(angle), s = std::sin(angle);
  switch (octant) {
    case 0:
      return {c, -s};
    case 1:
      return {s, -c};
    case 2:
      return {-s, -c};
    case 3:
      return {-c, -s};
    case 4:
      return {-c, s};
    case 5:
      return {-s, c};
    case 6:
      return {s, c};
    default:
      return {c, s};
  }
}

}  // namespace mahia::cpu
