// SPDX-License-Identifier: Apache-2.0
#include "nn/hyena_filter.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/grad_mode.hpp"
#include "core/graph.hpp"
#include "nn/init.hpp"
#include "nn/linear.hpp"
#include "ops/binary.hpp"
#include "ops/linear.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"

namespace mahia::nn {
namespace {

const HyenaFilterConfig& checked(const HyenaFilterConfig& c) {
  check<ValueError>(c.l_max >= 1 && c.channels >= 1 && c.hidden >= 1 && c.inner_layers >= 0, "HyenaFilter: l_max ",
                    c.l_max, ", channels ", c.channels, ", hidden ", c.hidden, " must be at least 1 and inner_layers ",
                    c.inner_layers, " at least 0");
  check<ValueError>(c.order >= 2, "HyenaFilter: order is ", c.order, ", must be at least 2");
  check<ValueError>(c.embedding >= 3 && c.embedding % 2 == 1, "HyenaFilter: embedding is ", c.embedding,
                    ", must be odd and at least 3");
  check<ValueError>(c.extend_to == 0 || c.extend_to >= c.l_max, "HyenaFilter: extend_to is ", c.extend_to,
                    ", must be 0 or at least l_max ", c.l_max);
  return c;
}

// h (D (N-1), T) with each row divided by the sum of its magnitudes over the first `grid` taps.
Tensor normalized(const Tensor& h, int64_t grid) {
  const Tensor size = sum(abs(narrow(h, 1, 0, grid)), {1}, true);
  return h / clamp(size, 1e-12, std::numeric_limits<double>::infinity());
}

}  // namespace

Sin::Sin(int64_t width, double frequency) : freq_(parameter("freq", full({1, width}, frequency))) {}
Tensor Sin::operator()(const Tensor& x) const { return sin(freq_ * x); }

ExponentialModulation::ExponentialModulation(const HyenaFilterConfig& c) {
  const double slow = std::log(c.decay_target) / c.slow_decay, fast = std::log(c.decay_target) / c.fast_decay;
  const Tensor deltas = reshape(linspace(slow, fast, c.channels * (c.order - 1)), {1, 1, -1});
  deltas_ = c.train_window ? parameter("deltas", deltas) : buffer("deltas", deltas);
}

HyenaFilter::HyenaFilter(const HyenaFilterConfig& c)
    : config_(checked(c)),
      bias_(c.skip ? parameter("bias", init::normal({c.channels * (c.order - 1)}, 1, init_call("bias"))) : Tensor()),
      pos_emb_(add<PositionalEmbedding>("pos_emb", c)),
      implicit_filter_(add<Sequential>("implicit_filter")),
      modulation_(add<ExponentialModulation>("modulation", c)),
      dropout_(add<Dropout>("dropout", c.dropout)) {
  implicit_filter_.append<Linear>(c.embedding, c.hidden);
  Sin& sine = implicit_filter_.append<Sin>(c.hidden, c.sine_frequency);
  for (int64_t i = 0; i < c.inner_layers; ++i) {
    implicit_filter_.append<Linear>(c.hidden, c.hidden);
    if (c.shared_frequency) {
      implicit_filter_.append_shared(sine);
    } else {
      implicit_filter_.append<Sin>(c.hidden, c.sine_frequency);
    }
  }
  last_weight_ = implicit_filter_.append<Linear>(c.hidden, c.channels * (c.order - 1), false).weight();
  for (const NamedTensors& named : {named_parameters(), named_buffers()}) {
    for (const auto& [name, tensor] : named) sources_.push_back(tensor);
  }
}

Tensor HyenaFilter::operator()(int64_t time) const {
  check<ValueError>(time >= 0 && time <= longest(), "HyenaFilter: ", time, " time steps exceed ",
                    config_.extend_to > 0 ? "extend_to " : "l_max ", longest(),
                    "; build the model with a larger l_max, or with extend_to");
  if (training() || grad_enabled() || StepGraph::is_running()) return dropout_(synthesized(time));
  return cache_.first(time, sources_, [this](int64_t taps) { return synthesized(taps); });
}

Tensor HyenaFilter::synthesized(int64_t time) const {
  const int64_t taps = config_.normalized ? std::max(time, config_.l_max) : time;
  Tensor h = linear_to_channels(implicit_filter_.first(pos_emb_.z(taps), implicit_filter_.size() - 1), last_weight_);
  h = reshape(h, {-1, taps});  // (D (N-1), T)
  if (config_.window) {
    const Tensor t = reshape(pos_emb_.t(taps), {1, taps}), rates = reshape(abs(modulation_.deltas()), {-1, 1});
    h = h * (exp(neg(rates * t)) + config_.shift);
  }
  if (config_.normalized) h = narrow(normalized(h, config_.l_max), 1, 0, time);
  return reshape(h, {config_.channels, config_.order - 1, time});
}

Tensor HyenaFilter::skip(int64_t o) const {
  if (!config_.skip || config_.order == 2) return bias_;
  return select(reshape(bias_, {config_.channels, config_.order - 1}), 1, o);
}

int64_t HyenaFilter::longest() const { return std::max(config_.l_max, config_.extend_to); }

// Steps replayed on a device change parameters without their versions, so no filter is kept over a stretch of training.
void HyenaFilter::train(bool training) {
  Module::train(training);
  cache_.clear();
}

std::string HyenaFilter::summary() const {
  return message("l_max ", config_.l_max, ", ", config_.channels, " channels, order ", config_.order);
}

}  // namespace mahia::nn
