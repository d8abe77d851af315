// SPDX-License-Identifier: Apache-2.0
#include "nn/models/hyena_lm.hpp"

#include "autograd/grad_mode.hpp"
#include "nn/init.hpp"
#include "ops/binary.hpp"
#include "ops/cross_entropy.hpp"
#include "ops/index.hpp"
#include "ops/linear.hpp"
#include "ops/pointwise.hpp"
#include "ops/shape.hpp"

namespace mahia::nn::models {
namespace {

HyenaConfig mixer_config(const HyenaLMConfig& c) {
  return {.width = c.width, .l_max = c.l_max, .order = c.order, .short_filter = c.short_filter, .filter = c.filter};
}

// The output map, head.weight (V, D): the embedding's under a second name or, where there is none, its own.
class OutputMap : public Module {
 public:
  OutputMap(const HyenaLMConfig& c, const Embedding* embedding)
      : weight(embedding != nullptr
                   ? share_parameter("weight", embedding->weight())
                   : parameter("weight", init::fan_in_uniform({c.vocab, c.width}, c.width, init_call("weight")))) {}
  Tensor weight;
};

}  // namespace

Mlp::Mlp(int64_t width) : fc1_(add<Linear>("fc1", width, 4 * width)), fc2_(add<Linear>("fc2", 4 * width, width)) {}
Tensor Mlp::operator()(const Tensor& x) const { return fc2_(gelu(fc1_(x), Approximate::tanh)); }

HyenaBlock::HyenaBlock(const HyenaLMConfig& c)
    : norm1_(add<LayerNorm>("norm1", c.width)), mixer_(add<HyenaOperator>("mixer", mixer_config(c))) {
  if (!c.mlp) return;
  norm2_ = &add<LayerNorm>("norm2", c.width);
  mlp_ = &add<Mlp>("mlp", c.width);
}

Tensor HyenaBlock::operator()(const Tensor& x, HyenaState* state) const {
  const Tensor u = norm1_(x);
  const Tensor mixed = x + (state != nullptr ? mixer_.advance(u, *state) : mixer_(u));  // (B, T, D)
  return mlp_ == nullptr ? mixed : mixed + (*mlp_)((*norm2_)(mixed));
}

HyenaLM::HyenaLM(const HyenaLMConfig& c)
    : config_(c),
      embedding_(c.real_inputs == 0 ? &add<Embedding>("embedding", c.vocab, c.width) : nullptr),
      projection_(c.real_inputs != 0 ? &add<Linear>("projection", c.real_inputs, c.width) : nullptr),
      dropout_(add<Dropout>("dropout", c.dropout)),
      layers_(add<ModuleList<HyenaBlock>>("layers")),
      norm_(add<LayerNorm>("norm", c.width)) {
  check<ValueError>(c.layers >= 0, "HyenaLM: layers is ", c.layers, ", must not be negative");
  for (int64_t i = 0; i < c.layers; ++i) layers_.append(c);
  head_ = add<OutputMap>("head", c, embedding_).weight;
  init::gpt2(*this, c.layers);
}

Tensor HyenaLM::features(const Tensor& inputs, DecodeState* state) const {
  const bool is_real = projection_ != nullptr;
  check<ShapeError>(inputs.rank() == (is_real ? 3 : 2), "HyenaLM: needs ",
                    is_real ? "real inputs (B, T, real_inputs)" : "tokens (B, T)", ", got ", inputs);
  Tensor x = dropout_(is_real ? (*projection_)(inputs) : (*embedding_)(inputs));  // (B, T, D)
  for (size_t i = 0; i < layers_.size(); ++i) x = layers_[i](x, state != nullptr ? &(*state)[i] : nullptr);
  return norm_(x);
}

Tensor HyenaLM::operator()(const Tensor& inputs) const { return linear(features(inputs), head_); }

Tensor HyenaLM::at_rows(const Tensor& inputs, const Tensor& rows) const {
  return linear(index_select(reshape(features(inputs), {-1, config_.width}), 0, rows), head_);
}

Tensor HyenaLM::loss(const Tensor& tokens, const Tensor& targets) const {
  check<ShapeError>(targets.shape() == tokens.shape(),
                    "HyenaLM: tokens and targets must have one shape (B, T): tokens ", tokens, ", targets ", targets);
  return linear_cross_entropy(reshape(features(tokens), {-1, config_.width}), head_, reshape(targets, {-1}));
}

DecodeState HyenaLM::start(int64_t batch, int64_t longest) const {
  check<ValueError>(projection_ == nullptr, "HyenaLM: a model of real inputs generates no tokens");
  DecodeState state;
  for (size_t i = 0; i < layers_.size(); ++i) state.push_back(layers_[i].start(batch, longest));
  return state;
}

Tensor HyenaLM::advance(const Tensor& tokens, DecodeState& state) const {
  const NoGrad no_grad;
  const Tensor x = features(tokens, &state);
  return linear(contiguous(select(x, 1, x.size(1) - 1)), head_);
}

std::string HyenaLM::summary() const {
  return message(config_.real_inputs == 0 ? "vocabulary " : "outputs ", config_.vocab, ", width ", config_.width, ", ",
                 config_.layers, " layers, l_max ", config_.l_max);
}

}  // namespace mahia::nn::models
