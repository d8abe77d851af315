// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "../embedding.hpp"
#include "../norm.hpp"
#include "../sparse_moe.hpp"
#include "causal_lm.hpp"

namespace mahia::nn::models {

enum class InitialWeights : uint8_t {
  pytorch,  // each layer's own, as its class says
  gpt2,     // linear maps and embedding N(0, 0.02^2), maps into the residual stream less: see init::gpt2
};

struct HyenaMoeLMConfig {
  int64_t vocab = 256;    // V; bytes by default
  int64_t width = 128;    // D
  int64_t layers = 4;     // blocks
  int64_t l_max = 512;    // the longest sequence T
  int64_t order = 2;      // of the Hyena operator
  int64_t num_heads = 1;  // these as in HyenaConfig
  int64_t inner_factor = 1;
  int64_t num_blocks = 1;
  int64_t short_filter = 3;  // taps of its short convolution
  bool outer_mixing = false;
  HyenaActivation activation = HyenaActivation::none;
  ConvAlgorithm algorithm = ConvAlgorithm::automatic;
  HyenaFilterConfig filter = {};  // everything but its l_max, channels and order
  int64_t experts = 8;            // E
  int64_t top_k = 2;              // experts per token
  int64_t hidden = 256;           // H of each expert
  ExpertKind expert = ExpertKind::gelu;
  bool expert_bias = false;
  RouterKind router = RouterKind::pre_softmax;
  std::optional<bool> renormalize = {};  // see RouterConfig
  RouterOptions routing = {};            // selection bias, groups, jitter, noise
  CapacityConfig capacity = {};          // of each expert
  int64_t shared_experts = 0;            // that serve every token besides, of `hidden` each
  double z_loss = 0;                     // coefficient of the router's z-loss, part of `loss`
  AuxLossSet losses = {};                // to compute besides the Switch loss and the z-loss
  double dropout = 0;                    // after the embedding and inside the Hyena operator
  bool tie_head = false;                 // the output head shares the embedding's weight
  InitialWeights initial_weights = InitialWeights::gpt2;
};

// What training needs from a batch.
struct LossOutput {
  Tensor loss;  // []: cross entropy in nats; while training, plus the z-loss if wanted
  Tensor
      aux;  // []: mean over the layers of their Switch losses, 0 with hash routers; the trainer's schedule weights it
  std::vector<MoeStats> stats;    // per layer
  std::vector<AuxLosses> losses;  // per layer: what the config asks for, and but for hash the Switch loss and z-loss
};

// One pre-norm block: x + mixer(norm1(x)), then x + moe(norm2(x)).
class HyenaMoeBlock : public Module {
 public:
  explicit HyenaMoeBlock(const HyenaMoeLMConfig& c);
  // y is the block's output, (B, T, D). With a state, x continues the sequences that it remembers. ids (B, T): what a
  // hash router chooses by.
  MoeOutput operator()(const Tensor& x, const HyenaSequence& sequence = {}, HyenaState* state = nullptr,
                       const Tensor& ids = {}) const;
  HyenaState start(int64_t batch, int64_t longest) const { return mixer_.start(batch, longest); }
  void update_select_bias(const Tensor& counts, double rate) const { moe_.update_select_bias(counts, rate); }

 private:
  LayerNorm& norm1_;
  HyenaOperator& mixer_;
  LayerNorm& norm2_;
  SparseMoETopK& moe_;
};

// A causal language model: embedding, blocks of a Hyena operator and a sparse mixture of experts, norm, head.
class HyenaMoeLM : public CausalLM {
 public:
  explicit HyenaMoeLM(const HyenaMoeLMConfig& c);
  // tokens (B, T) i64 -> logits (B, T, V). `sequence` says what is padding and where documents begin.
  Tensor operator()(const Tensor& tokens, const HyenaSequence& sequence = {}) const;
  // The logits after the last token only, (B, V).
  Tensor last_logits(const Tensor& tokens) const;
  // tokens, targets (B, T) i64; logits are never stored whole.
  LossOutput loss(const Tensor& tokens, const Tensor& targets, const HyenaSequence& sequence = {}) const;
  bool has_select_bias() const { return config_.routing.select_bias && config_.layers > 0; }
  // Loss-free balancing, once per optimizer step: counts[l] (E) are the pairs per expert of layer l in that step. See
  // Router::update_select_bias.
  void update_select_bias(const Tensors& counts, double rate = 1e-3) const;
  int64_t vocab() const override { return config_.vocab; }
  int64_t longest() const override { return std::max(config_.l_max, config_.filter.extend_to); }
  DecodeState start(int64_t batch, int64_t longest) const override;
  Tensor advance(const Tensor& tokens, DecodeState& state) const override;
  const HyenaMoeLMConfig& config() const { return config_; }
  std::string summary() const override;

 private:
  // The normalised features (B, T, D) and each layer's output; with a state, of tokens that continue it.
  Tensor features(const Tensor& tokens, const HyenaSequence& sequence = {}, std::vector<MoeOutput>* layers = nullptr,
                  DecodeState* state = nullptr) const;
  // The logits of the last of the features' times, (B, V).
  Tensor last(const Tensor& features) const;

  HyenaMoeLMConfig config_;
  Embedding& embedding_;
  Dropout& dropout_;
  ModuleList<HyenaMoeBlock>& layers_;
  LayerNorm& norm_;
  Tensor head_;
};

}  // namespace mahia::nn::models
