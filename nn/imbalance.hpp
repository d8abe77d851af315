// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "../core/tensor.hpp"

namespace mahia::nn {

// How unevenly pairs go to the experts: 0 when evenly. n are the pairs per expert before any drop, f = n / sum n.
enum class Imbalance : uint8_t {
  max_violation,  // MaxVio (Wang et al. 2024): max n / mean n - 1
  variation,      // the coefficient of variation of n
  drop_rate,      // the share of the pairs that found no slot
  entropy,        // 1 - H(f) / ln E; 0 for a single expert
};
// As they are called in configurations, in the order of the enumerators.
inline constexpr std::array<const char*, 4> imbalance_names = {"max_violation", "variation", "drop_rate", "entropy"};

// The imbalance of each of L layers, f64 (L), on the device of the counts; 0 for a layer without a pair. counts and
// kept (only drop_rate reads it) are i64 (L, E): pairs before any drop, and those of them that found a slot. Throws
// ShapeError; ValueError for a drop rate without kept.
Tensor imbalance(Imbalance metric, const Tensor& counts, const Tensor& kept = {});

}  // namespace mahia::nn
