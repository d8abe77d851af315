// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mahia::train {

// How the next token is drawn from a model's logits. The steps come in the order of the fields, each on what the one
// before left, as is usual.
struct SamplingOptions {
  double repetition_penalty = 1;  // of tokens that the sequence holds: divides positive logits, multiplies others
  double temperature = 1;         // divides all logits; 0: the most likely token each time
  int64_t top_k = 0;              // only the k most likely tokens stay; 0: all
  double top_p = 1;               // only the fewest likeliest tokens stay whose probabilities sum to at least this
};

// Throws ValueError, naming the option: repetition_penalty > 0 and temperature >= 0, both finite, top_k >= 0, top_p in
// (0, 1].
void validate(const SamplingOptions& options);

// The token that the uniform number u in [0, 1) draws. `seen` says per token whether the sequence holds it; equally
// likely tokens stand in the order of their numbers. A pure function. Throws ValueError unless the largest logit is
// finite and none is NaN.
int64_t sample(std::span<const float> logits, const std::vector<bool>& seen, const SamplingOptions& options, double u);

}  // namespace mahia::train
