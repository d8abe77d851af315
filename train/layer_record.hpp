// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>

#include "../nn/sparse_moe.hpp"
#include "metrics.hpp"

namespace mahia::train {

// What a log line says of a layer: `counts` i64 (E) are the step's pairs per expert, `last` is what the layer said of
// the last micro-batch. Waits for the device. Dead experts and gradients are left open.
LayerRecord layer_record(const Tensor& counts, const nn::MoeStats& last);

// Which experts get nothing for long.
class DeadExperts {
 public:
  static constexpr size_t window = 10;  // log lines
  // Counts, in each layer, the experts that got no pair in this line nor in the window - 1 before it.
  void note(std::vector<LayerRecord>& layers);

 private:
  std::deque<std::vector<std::vector<int64_t>>> pairs_;  // [line][layer][expert]
};

}  // namespace mahia::train
