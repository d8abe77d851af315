// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "containers.hpp"
#include "dropout.hpp"
#include "hyena_filter_cache.hpp"
#include "hyena_positions.hpp"

namespace mahia::nn {

struct HyenaFilterConfig {
  int64_t l_max = 1024;          // length of the grid of positions; the longest filter
  int64_t extend_to = 0;         // continue the grid for inputs up to this length; 0: refuse those beyond l_max
  int64_t channels = 64;         // filters of one convolution: those of one head of the operator
  int64_t order = 2;             // of the operator: order - 1 filters per channel
  int64_t embedding = 33;        // position features: 1 + 2 * bands, odd
  int64_t hidden = 64;           // width F of the implicit network
  int64_t inner_layers = 2;      // sine layers between the first and the last linear map
  double sine_frequency = 10;    // initial value of the frequencies w
  bool shared_frequency = true;  // all sine layers have one w, or each its own
  bool train_positions = false;  // whether the position features are a parameter
  bool window = true;            // whether filters are multiplied by exp(-t |delta|) + shift
  bool train_window = false;     // whether delta is a parameter
  bool normalized = false;       // whether each filter is divided by the sum of |h| over the grid
  bool skip = true;              // whether there are skip weights
  double dropout = 0;            // on the taps, while training
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
  // The first `time` taps of all filters, (channels, order - 1, time). Throws ValueError beyond longest(). In eval mode
  // without gradients they are computed once and kept until a parameter changes.
  Tensor operator()(int64_t time) const;
  // The skip weights of convolution o, (channels); undefined without.
  Tensor skip(int64_t o) const;
  // The longest filter that there is.
  int64_t longest() const;
  void train(bool training = true) override;
  std::string summary() const override;

 private:
  Tensor synthesized(int64_t time) const;

  HyenaFilterConfig config_;
  Tensor bias_;
  PositionalEmbedding& pos_emb_;
  Sequential& implicit_filter_;
  ExponentialModulation& modulation_;
  Dropout& dropout_;
  Tensor last_weight_;  // of the network's last linear map, which is applied channel-first
  Tensors sources_;     // all parameters and buffers
  mutable HyenaFilterCache cache_;
};

}  // namespace mahia::nn
