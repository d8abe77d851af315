// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "causal_lm.hpp"

namespace mahia::nn::models {

// Runs a causal language model over a batch of growing sequences, O(L log^2 L) for L tokens in total: each layer keeps
// what later tokens need of the earlier ones. The logits are those of the whole sequence's forward, to the bit where
// that uses ConvAlgorithm::dyadic. All sequences have one length; a row's logits do not depend on the other rows.
//
// The model sees a window of at most `longest` tokens. When it is full, it starts anew with its last half (longest / 2,
// rounded down) before the next token is read: window k begins at token k (longest - longest / 2), whatever the lengths
// of prompts.
class Generator {
 public:
  // Sequences are empty at first. The model must outlive this and stay in eval mode on its device. Throws ValueError
  // for a model in training mode, batch < 1, and `longest` beyond the model's.
  Generator(const CausalLM& model, int64_t batch, int64_t longest);
  // Appends tokens i64 (B, T), T >= 1, to empty sequences in one parallel pass; the logits after the last, (B, V).
  Tensor prefill(const Tensor& tokens);
  // Appends one token to each sequence, i64 (B); the logits after it, (B, V).
  Tensor step(const Tensor& tokens);
  int64_t position() const { return position_; }  // tokens read

 private:
  // Puts `tokens` (B, T), T <= longest, into a new window whose first token is number `begin`.
  Tensor open_window(const Tensor& tokens, int64_t begin);

  const CausalLM& model_;
  int64_t batch_, longest_;
  int64_t position_ = 0, begin_ = 0;  // tokens read; the window's first one
  Tensor window_;                     // (B, longest), filled up to position - begin
  DecodeState state_;
};

}  // namespace mahia::nn::models
