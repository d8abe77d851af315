// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "../nn/models/hyena_moe_lm.hpp"

namespace mahia::train {

struct GenerateOptions {
  int64_t tokens = 200;    // how many to add
  double temperature = 1;  // 0: the most likely token each time
  int64_t top_k = 0;       // only the k most likely tokens are drawn from; 0: all
  uint64_t seed = 0;
};

// Continues `prompt` byte by byte: each step runs the model over the last l_max bytes. `on_byte` sees each new byte at
// once. Returns the new bytes: a pure function of model, prompt and options. Throws ValueError for an empty prompt, a
// negative temperature, top_k or number of tokens, and a vocabulary below 256.
std::string generate(const nn::models::HyenaMoeLM& model, const std::string& prompt, const GenerateOptions& options,
                     const std::function<void(char)>& on_byte = {});

}  // namespace mahia::train
