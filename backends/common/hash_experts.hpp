// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/common/pointwise.hpp"
#include "core/random.hpp"

namespace mahia {

MAHIA_HD bool is_among(const int64_t* experts, int64_t n, int64_t expert) {
  bool found = false;
  for (int64_t i = 0; i < n; ++i) found = found || experts[i] == expert;
  return found;
}

// Writes the k experts of one id. 2^18 words that do not hold k different experts are followed by the lowest ones.
MAHIA_HD void choose_by_hash(uint64_t key, int64_t id, int64_t num_experts, int64_t k, int64_t* experts) {
  int64_t n = 0;
  for (uint32_t call = 0; n < k && call < 1u << 16; ++call) {
    const auto words = random_words({key, static_cast<uint16_t>(call), 0}, static_cast<uint64_t>(id));
    for (int w = 0; w < 4 && n < k; ++w) {
      const auto expert = static_cast<int64_t>(words[static_cast<size_t>(w)]) % num_experts;
      if (!is_among(experts, n, expert)) experts[n++] = expert;
    }
  }
  for (int64_t expert = 0; n < k; ++expert) {
    if (!is_among(experts, n, expert)) experts[n++] = expert;
  }
}

}  // namespace mahia
