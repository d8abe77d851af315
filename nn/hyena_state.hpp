// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "../ops/long_conv_state.hpp"

namespace mahia::nn {

// What an operator remembers of a batch of sequences that grow together.
struct HyenaState {
  Tensor recent;                            // (B, (N+1) D, K-1): the short filter's last inputs
  std::vector<LongConvState> convolutions;  // N-1, of the present block
  int64_t position = 0, longest = 0;        // inputs so far, and how many there may be
};

}  // namespace mahia::nn
