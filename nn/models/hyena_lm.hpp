// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../embedding.hpp"
#include "../norm.hpp"
#include "causal_lm.hpp"

namespace mahia::nn::models {

struct HyenaLMConfig {
  int64_t vocab = 10;        // V; with real inputs the width of the output
  int64_t width = 64;        // D
  int64_t layers = 2;        // blocks
  int64_t l_max = 22;        // the longest sequence T
  int64_t order = 2;         // of the Hyena operator
  int64_t short_filter = 3;  // taps of its short convolution
  HyenaFilterConfig filter = {.embedding = 5};
  bool mlp = true;       // whether a block has an MLP of hidden width 4 D after its mixer
  double dropout = 0.1;  // of the embedding, before the first block
  int64_t real_inputs =
      0;  // > 0: vectors of that width in place of tokens, mapped to D; the output is a map of its own
};

// D -> 4 D -> D with GELU in its tanh form.
class Mlp : public Module {
 public:
  explicit Mlp(int64_t width);
  Tensor operator()(const Tensor& x) const;

 private:
  Linear &fc1_, &fc2_;
};

// One pre-norm block: x + mixer(norm1(x)), then x + mlp(norm2(x)) if it has an MLP.
class HyenaBlock : public Module {
 public:
  explicit HyenaBlock(const HyenaLMConfig& c);
  // (B, T, D) -> (B, T, D). With a state, x continues the sequences that it remembers.
  Tensor operator()(const Tensor& x, HyenaState* state = nullptr) const;
  HyenaState start(int64_t batch, int64_t longest) const { return mixer_.start(batch, longest); }

 private:
  LayerNorm& norm1_;
  HyenaOperator& mixer_;
  LayerNorm* norm2_ = nullptr;
  Mlp* mlp_ = nullptr;
};

// The causal language model on which Hyena was published (Poli et al. 2023, appendix A): embedding without positions,
// blocks, norm, and a head that shares the embedding's weight. Initial weights as init::gpt2 draws them.
class HyenaLM : public CausalLM {
 public:
  explicit HyenaLM(const HyenaLMConfig& c);
  // tokens (B, T) i64, or real inputs (B, T, real_inputs) -> logits or outputs (B, T, V).
  Tensor operator()(const Tensor& inputs) const;
  // The same for the rows `rows` (n) i64 of the B T positions alone -> (n, V).
  Tensor at_rows(const Tensor& inputs, const Tensor& rows) const;
  // Cross entropy in nats, [], over the targets (B, T) i64 that are not -100; logits are never stored whole.
  Tensor loss(const Tensor& tokens, const Tensor& targets) const;
  int64_t vocab() const override { return config_.vocab; }
  int64_t longest() const override { return config_.l_max; }
  DecodeState start(int64_t batch, int64_t longest) const override;  // throws ValueError for a model of real inputs
  Tensor advance(const Tensor& tokens, DecodeState& state) const override;
  const HyenaLMConfig& config() const { return config_; }
  std::string summary() const override;

 private:
  // Normalised, (B, T, D); with a state, of inputs that continue it.
  Tensor features(const Tensor& inputs, DecodeState* state = nullptr) const;

  HyenaLMConfig config_;
  Embedding* embedding_ = nullptr;
  Linear* projection_ = nullptr;  // of real inputs
  Dropout& dropout_;
  ModuleList<HyenaBlock>& layers_;
  LayerNorm& norm_;
  Tensor head_;  // (V, D)
};

}  // namespace mahia::nn::models
