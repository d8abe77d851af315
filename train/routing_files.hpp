// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "../nn/routing_trace.hpp"

namespace mahia::train {

// What the routers chose in one optimizer step: the calls of its first micro-batch, then those of the next.
struct RoutedStep {
  int64_t step = 0;  // counted from 1
  int64_t micro_batch_count = 1;
  nn::RouterChoices choices;

  int64_t layers() const { return std::ssize(choices) / micro_batch_count; }
  std::vector<nn::RouterChoices> micro_batches() const;
};

// FOLDER/step-00000012.safetensors, with the tensors "MICRO_BATCH.CALL", u8 for up to 256 experts, else i32. Waits for
// the device; throws IoError.
void save_routing(const std::string& folder, const RoutedStep& step);
// Throws IoError for a file that is missing, damaged or no such file; the choices are i64 on the CPU, each inside its
// experts.
RoutedStep load_routing(const std::string& folder, int64_t step);
// The steps in a folder, ascending; throws IoError where there is none.
std::vector<int64_t> routed_steps(const std::string& folder);

}  // namespace mahia::train
