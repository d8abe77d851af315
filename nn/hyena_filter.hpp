// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "containers.hpp"

namespace mahia::nn {

struct HyenaFilterConfig {
  int64_t l_max = 1024;          // length of the grid of positions; the longest filter
  int64_t channels = 64;         // filters of one convolution: the operator's width D
  int64_t order = 2;             // of the operator: order - 1 filters per channel
  int64_t embedding = 33;        // position features: 1 + 2 * bands, odd
  int64_t hidden = 64;           // width F of the implicit network
  int64_t inner_layers = 2;      // sine layers between the first and the last linear map
  double sine_frequency = 10;    // initial value of the shared frequencies w
  bool train_positions = false;  // whether the position features are a parameter
  double fast_decay = 0.3, slow_decay = 1.5, decay_target = 1e-2, shift = 0;  // of the exponential window
};

// sin(w x) with the trainable frequencies w (1, F).
class Sin : public Module {
 public:
  Sin(int64_t width, double frequency);
  Tensor operator()(const Tensor& x) const;

 private:
  Tensor freq_;
};

// z_i = [t_i, cos(f w_i), -sin(f w_i)] with t_i = i / (l_max - 1), w_i = 2 pi i / l_max.
class PositionalEmbedding : public Module {
 public:
  explicit PositionalEmbedding(const HyenaFilterConfig& c);
  const Tensor& z() const { return z_; }  // (1, l_max, embedding)
  const Tensor& t() const { return t_; }  // (1, l_max, 1)

 private:
  Tensor z_, t_;
};

// The decay rates of the window: deltas (1, 1, channels (order - 1)).
class ExponentialModulation : public Module {
 public:
  explicit ExponentialModulation(const HyenaFilterConfig& c);
  const Tensor& deltas() const { return deltas_; }

 private:
  Tensor deltas_;
};

// The implicit long filters of the Hyena operator (Poli et al. 2023, section 3.3): a network of sines over positions,
// times exp(-t |delta|) + shift. Column of channel c and convolution o: c * (order - 1) + o.
class HyenaFilter : public Module {
 public:
  explicit HyenaFilter(const HyenaFilterConfig& c);
  // The first `time` taps of all filters, (channels, order - 1, time). Throws ValueError beyond l_max.
  Tensor operator()(int64_t time) const;
  // The skip weights of convolution o, (channels).
  Tensor skip(int64_t o) const;
  std::string summary() const override;

 private:
  HyenaFilterConfig config_;
  Tensor bias_;
  PositionalEmbedding& pos_emb_;
  Sequential& implicit_filter_;
  ExponentialModulation& modulation_;
  Tensor last_weight_;  // of the network's last linear map, which is applied channel-first
};

}  // namespace mahia::nn
