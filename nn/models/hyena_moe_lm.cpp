// SPDX-License-Identifier: Apache-2.0
#include "nn/models/hyena_moe_lm.hpp"

#include <algorithm>

#include "autograd/grad_mode.hpp"
#include "core/factory.hpp"
#include "nn/init.hpp"
#include "ops/binary.hpp"
#include "ops/cross_entropy.hpp"
#include "ops/linear.hpp"
#include "ops/shape.hpp"

namespace mahia::nn::models {
namespace {

HyenaConfig mixer_config(const HyenaMoeLMConfig& c) {
  return {.width = c.width,
          .l_max = c.l_max,
          .order = c.order,
          .num_heads = c.num_heads,
          .inner_factor = c.inner_factor,
          .num_blocks = c.num_blocks,
          .short_filter = c.short_filter,
          .outer_mixing = c.outer_mixing,
          .activation = c.activation,
          .dropout = c.dropout,
          .algorithm = c.algorithm,
          .filter = c.filter};
}

MoeConfig moe_config(const HyenaMoeLMConfig& c) {
  AuxLossSet losses = c.losses;
  if (c.router != RouterKind::hash) {
    losses.insert(AuxLoss::balance);
    losses.insert(AuxLoss::z_loss);
  }
  return {.width = c.width,
          .hidden = c.hidden,
          .num_experts = c.experts,
          .top_k = c.top_k,
          .router = c.router,
          .expert = c.expert,
          .renormalize = c.renormalize,
          .bias = c.expert_bias,
          .losses = losses,
          .routing = c.routing,
          .capacity = c.capacity,
          .shared_experts = c.shared_experts};
}

// The output map, head.weight (V, D): its own, or the embedding's under a second name.
class Head : public Module {
 public:
  Head(const HyenaMoeLMConfig& c, const Tensor& embedding)
      : weight(c.tie_head
                   ? share_parameter("weight", embedding)
                   : parameter("weight", init::fan_in_uniform({c.vocab, c.width}, c.width, init_call("weight")))) {}
  Tensor weight;
};

}  // namespace

HyenaMoeBlock::HyenaMoeBlock(const HyenaMoeLMConfig& c)
    : norm1_(add<LayerNorm>("norm1", c.width)),
      mixer_(add<HyenaOperator>("mixer", mixer_config(c))),
      norm2_(add<LayerNorm>("norm2", c.width)),
      moe_(add<SparseMoETopK>("moe", moe_config(c))) {}

MoeOutput HyenaMoeBlock::operator()(const Tensor& x, const HyenaSequence& sequence, HyenaState* state,
                                    const Tensor& ids) const {
  const Tensor u = norm1_(x);
  const Tensor mixed = x + (state ? mixer_.advance(u, *state) : mixer_(u, sequence));  // (B, T, D)
  MoeOutput out = moe_(norm2_(mixed), sequence.mask, ids);
  out.y = mixed + out.y;
  return out;
}

HyenaMoeLM::HyenaMoeLM(const HyenaMoeLMConfig& c)
    : config_(c),
      embedding_(add<Embedding>("embedding", c.vocab, c.width)),
      dropout_(add<Dropout>("dropout", c.dropout)),
      layers_(add<ModuleList<HyenaMoeBlock>>("layers")),
      norm_(add<LayerNorm>("norm", c.width)) {
  check<ValueError>(c.router != RouterKind::hash || c.z_loss == 0,
                    "HyenaMoeLM: a hash router has no z-loss, got the coefficient ", c.z_loss);
  check<ValueError>(c.layers >= 0, "HyenaMoeLM: layers is ", c.layers, ", must not be negative");
  for (int64_t i = 0; i < c.layers; ++i) layers_.append(c);
  head_ = add<Head>("head", c, embedding_.weight()).weight;
  if (c.initial_weights == InitialWeights::gpt2) init::gpt2(*this, c.layers);
}

Tensor HyenaMoeLM::features(const Tensor& tokens, const HyenaSequence& sequence, std::vector<MoeOutput>* layers,
                            DecodeState* state) const {
  check<ShapeError>(tokens.rank() == 2, "HyenaMoeLM: needs tokens (B, T), got ", tokens);
  Tensor x = dropout_(embedding_(tokens));  // (B, T, D)
  for (size_t i = 0; i < layers_.size(); ++i) {
    MoeOutput out = layers_[i](x, sequence, state ? &(*state)[i] : nullptr, tokens);
    x = out.y;
    if (layers != nullptr) layers->push_back(std::move(out));
  }
  return norm_(x);
}

Tensor HyenaMoeLM::operator()(const Tensor& tokens, const HyenaSequence& sequence) const {
  return linear(features(tokens, sequence), head_);
}

Tensor HyenaMoeLM::last_logits(const Tensor& tokens) const {
  check<ShapeError>(tokens.rank() == 2 && tokens.size(1) >= 1,
                    "HyenaMoeLM: last_logits needs tokens (B, T) with T >= 1, got ", tokens);
  return last(features(tokens));
}

Tensor HyenaMoeLM::last(const Tensor& x) const { return linear(contiguous(select(x, 1, x.size(1) - 1)), head_); }

DecodeState HyenaMoeLM::start(int64_t batch, int64_t longest) const {
  DecodeState state;
  for (size_t i = 0; i < layers_.size(); ++i) state.push_back(layers_[i].start(batch, longest));
  return state;
}

Tensor HyenaMoeLM::advance(const Tensor& tokens, DecodeState& state) const {
  const NoGrad no_grad;
  return last(features(tokens, {}, nullptr, &state));
}

LossOutput HyenaMoeLM::loss(const Tensor& tokens, const Tensor& targets, const HyenaSequence& sequence) const {
  check<ShapeError>(targets.shape() == tokens.shape(),
                    "HyenaMoeLM: tokens and targets must have one shape (B, T): tokens ", tokens, ", targets ",
                    targets);
  std::vector<MoeOutput> layers;
  const Tensor x = features(tokens, sequence, &layers);
  LossOutput out;
  out.loss = linear_cross_entropy(reshape(x, {-1, config_.width}), head_, reshape(targets, {-1}));
  out.aux = zeros({}, out.loss.dtype(), out.loss.device());
  const double share = 1.0 / static_cast<double>(std::max<int64_t>(1, config_.layers));
  for (MoeOutput& layer : layers) {
    if (const Tensor& balance = layer.losses[AuxLoss::balance]; balance.defined()) out.aux = out.aux + balance * share;
    if (training() && config_.z_loss > 0)
      out.loss = out.loss + layer.losses[AuxLoss::z_loss] * (config_.z_loss * share);
    out.stats.push_back(std::move(layer.stats));
    out.losses.push_back(std::move(layer.losses));
  }
  return out;
}

void HyenaMoeLM::update_select_bias(const Tensors& counts, double rate) const {
  check<ValueError>(counts.size() == layers_.size(), "HyenaMoeLM: update_select_bias needs the counts of ",
                    config_.layers, " layers, got ", std::ssize(counts));
  for (size_t i = 0; i < counts.size(); ++i) layers_[i].update_select_bias(counts[i], rate);
}

std::string HyenaMoeLM::summary() const {
  return message("vocabulary ", config_.vocab, ", width ", config_.width, ", ", config_.layers, " layers, l_max ",
                 config_.l_max);
}

}  // namespace mahia::nn::models
