// SPDX-License-Identifier: Apache-2.0
#include "nn/hyena_filter.hpp"

#include <cmath>
#include <numbers>

#include "nn/init.hpp"
#include "nn/linear.hpp"
#include "ops/binary.hpp"
#include "ops/linear.hpp"
#include "ops/pointwise.hpp"
#include "ops/shape.hpp"

namespace mahia::nn {
namespace {

// (1, l_max, embedding), computed in f64.
Tensor position_features(const HyenaFilterConfig& c) {
  const int64_t bands = (c.embedding - 1) / 2;
  std::vector<float> z;
  for (int64_t i = 0; i < c.l_max; ++i) {
    const double t = c.l_max > 1 ? static_cast<double>(i) / static_cast<double>(c.l_max - 1) : 0;
    const double w = 2 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(c.l_max);
    const auto frequency = [&](int64_t b) {
      if (bands == 1) return 1e-4;
      return 1e-4 + (static_cast<double>(bands - 1) - 1e-4) * static_cast<double>(b) / static_cast<double>(bands - 1);
    };
    z.push_back(static_cast<float>(t));
    for (int64_t b = 0; b < bands; ++b) z.push_back(static_cast<float>(std::cos(frequency(b) * w)));
    for (int64_t b = 0; b < bands; ++b) z.push_back(static_cast<float>(-std::sin(frequency(b) * w)));
  }
  return Tensor::from(z, {1, c.l_max, c.embedding});
}

const HyenaFilterConfig& checked(const HyenaFilterConfig& c) {
  check<ValueError>(c.l_max >= 1 && c.channels >= 1 && c.hidden >= 1 && c.inner_layers >= 0, "HyenaFilter: l_max ",
                    c.l_max, ", channels ", c.channels, ", hidden ", c.hidden, " must be at least 1 and inner_layers ",
                    c.inner_layers, " at least 0");
  check<ValueError>(c.order >= 2, "HyenaFilter: order is ", c.order, ", must be at least 2");
  check<ValueError>(c.embedding >= 3 && c.embedding % 2 == 1, "HyenaFilter: embedding is ", c.embedding,
                    ", must be odd and at least 3");
  return c;
}

}  // namespace

Sin::Sin(int64_t width, double frequency) : freq_(parameter("freq", full({1, width}, frequency))) {}
Tensor Sin::operator()(const Tensor& x) const { return sin(freq_ * x); }

PositionalEmbedding::PositionalEmbedding(const HyenaFilterConfig& c) {
  const Tensor z = position_features(c);
  z_ = c.train_positions ? parameter("z", z) : buffer("z", z);
  t_ = buffer("t", reshape(linspace(0, c.l_max > 1 ? 1 : 0, c.l_max), {1, c.l_max, 1}));
}

ExponentialModulation::ExponentialModulation(const HyenaFilterConfig& c) {
  const double slow = std::log(c.decay_target) / c.slow_decay, fast = std::log(c.decay_target) / c.fast_decay;
  deltas_ = buffer("deltas", reshape(linspace(slow, fast, c.channels * (c.order - 1)), {1, 1, -1}));
}

HyenaFilter::HyenaFilter(const HyenaFilterConfig& c)
    : config_(checked(c)),
      bias_(parameter("bias", init::normal({c.channels * (c.order - 1)}, 1, init_call("bias")))),
      pos_emb_(add<PositionalEmbedding>("pos_emb", c)),
      implicit_filter_(add<Sequential>("implicit_filter")),
      modulation_(add<ExponentialModulation>("modulation", c)) {
  implicit_filter_.append<Linear>(c.embedding, c.hidden);
  Sin& sine = implicit_filter_.append<Sin>(c.hidden, c.sine_frequency);
  for (int64_t i = 0; i < c.inner_layers; ++i) {
    implicit_filter_.append<Linear>(c.hidden, c.hidden);
    implicit_filter_.append_shared(sine);
  }
  last_weight_ = implicit_filter_.append<Linear>(c.hidden, c.channels * (c.order - 1), false).weight();
}

Tensor HyenaFilter::operator()(int64_t time) const {
  check<ValueError>(time >= 0 && time <= config_.l_max, "HyenaFilter: ", time, " time steps exceed l_max ",
                    config_.l_max, "; build the model with a larger l_max");
  const Tensor z = narrow(pos_emb_.z(), 1, 0, time);  // (1, T, emb)
  const Tensor h = linear_to_channels(implicit_filter_.first(z, implicit_filter_.size() - 1), last_weight_);
  const Tensor t = reshape(narrow(pos_emb_.t(), 1, 0, time), {1, time});
  const Tensor rates = reshape(abs(modulation_.deltas()), {-1, 1});
  const Tensor window = exp(neg(rates * t)) + config_.shift;  // (D (N-1), T)
  return reshape(reshape(h, window.shape()) * window, {config_.channels, config_.order - 1, time});
}

Tensor HyenaFilter::skip(int64_t o) const {
  if (config_.order == 2) return bias_;
  return select(reshape(bias_, {config_.channels, config_.order - 1}), 1, o);
}

std::string HyenaFilter::summary() const {
  return message("l_max ", config_.l_max, ", ", config_.channels, " channels, order ", config_.order);
}

}  // namespace mahia::nn
