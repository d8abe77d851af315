// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "backends/common/pointwise.hpp"

namespace mahia {

// A token with a waiting pair: its scores (E), its own pairs' experts as chosen and as served (k), and how many pairs
// each expert serves so far (E).
template <class S>
struct WaitingToken {
  const S* scores;
  const int64_t *chosen, *serving;
  const int32_t* taken;
  int64_t experts, k, capacity;

  MAHIA_HD bool waits(int64_t j) const { return chosen[j] >= 0 && serving[j] < 0; }
  MAHIA_HD bool may_ask(int64_t e) const {
    bool may = taken[e] < capacity;
    for (int64_t j = 0; j < k; ++j) may = may && serving[j] != e;
    return may;
  }
  // The best expert that may be asked and that comes behind `last` in the order of the scores; -1: none. Scores that
  // are not finite close an expert.
  MAHIA_HD int32_t next(int32_t last) const {
    int32_t best = -1;
    for (int32_t e = 0; e < experts; ++e) {
      const S score = scores[e];
      const bool behind = last < 0 || score < scores[last] || (score == scores[last] && e > last);
      const bool better = best < 0 ? score - score == 0 : score > scores[best];
      if (behind && better && may_ask(e)) best = e;
    }
    return best;
  }
  // Whom the waiting pair of choice j asks: each of the token's waiting pairs another expert.
  MAHIA_HD int32_t expert_for(int64_t j) const {
    int32_t expert = next(-1);
    for (int64_t i = 0; i < j && expert >= 0; ++i) {
      if (waits(i)) expert = next(expert);
    }
    return expert;
  }
};

}  // namespace mahia
