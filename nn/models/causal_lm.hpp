// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../hyena.hpp"

namespace mahia::nn::models {

// What a model remembers of a batch of sequences that grow together: the state of each layer's mixer.
using DecodeState = std::vector<HyenaState>;

// A causal language model whose sequences can grow token by token: what a Generator needs of it.
class CausalLM : public Module {
 public:
  virtual int64_t vocab() const = 0;    // V
  virtual int64_t longest() const = 0;  // sequence that its filters reach
  // The state of `batch` sequences that are empty and may grow to `longest` tokens.
  virtual DecodeState start(int64_t batch, int64_t longest) const = 0;
  // Appends tokens i64 (B, T), any T >= 1 to empty sequences and then T = 1; gives the logits after the last, (B, V).
  // Records no gradient. Throws ValueError while training and beyond `longest`.
  virtual Tensor advance(const Tensor& tokens, DecodeState& state) const = 0;
};

}  // namespace mahia::nn::models
