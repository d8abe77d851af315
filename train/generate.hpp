// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "../nn/models/causal_lm.hpp"
#include "data/vocabulary.hpp"
#include "sampling.hpp"

namespace mahia::train {

struct GenerateOptions {
  int64_t tokens = 200;            // how many to add to each sequence
  SamplingOptions sampling = {};   // how each is drawn
  uint64_t seed = 0;               // of the random numbers, one per (seed, row, position)
  std::vector<int64_t> stop = {};  // a sequence ends before any of these
  int64_t below = 0;               // only tokens below this are drawn; 0: all of the vocabulary
  int64_t longest = 0;             // the window of tokens that the model sees, see Generator; 0: its longest
};

// Continues each prompt, token by token, and returns what was added: for row r a pure function of the model, prompt r,
// r and the options, whatever the other prompts are. Rows run in step: prompts up to the length of the shortest in one
// pass, what is longer while the others are written already. `on_token` sees each new token at once. Throws ValueError
// for no prompt, an empty one, options out of range and a model in training mode, IndexError for a token that is not in
// the vocabulary.
std::vector<std::vector<int64_t>> generate(const nn::models::CausalLM& model,
                                           const std::vector<std::vector<int64_t>>& prompts,
                                           const GenerateOptions& options,
                                           const std::function<void(size_t row, int64_t token)>& on_token = {});

// The same for one text in the characters of a vocabulary; no other tokens are drawn. Throws ValueError also for a
// prompt with other characters and a model with fewer tokens than the vocabulary.
std::string generate(const nn::models::CausalLM& model, const std::string& prompt, const Vocabulary& vocabulary,
                     const GenerateOptions& options, const std::function<void(char)>& on_character = {});

}  // namespace mahia::train
