// SPDX-License-Identifier: Apache-2.0
#include "nn/hyena_positions.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/factory.hpp"
#include "nn/hyena_filter.hpp"
#include "ops/cat.hpp"
#include "ops/shape.hpp"

namespace mahia::nn {
namespace {

double position(const HyenaFilterConfig& c, int64_t i) {
  return static_cast<double>(i) / static_cast<double>(std::max<int64_t>(c.l_max - 1, 1));
}

// z of the positions [begin, end), (1, end - begin, embedding), computed in f64.
Tensor features(const HyenaFilterConfig& c, int64_t begin, int64_t end) {
  const int64_t bands = (c.embedding - 1) / 2;
  const auto frequency = [&](int64_t b) {
    if (bands == 1) return 1e-4;
    return 1e-4 + (static_cast<double>(bands - 1) - 1e-4) * static_cast<double>(b) / static_cast<double>(bands - 1);
  };
  std::vector<float> z;
  for (int64_t i = begin; i < end; ++i) {
    const double w = 2 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(c.l_max);
    z.push_back(static_cast<float>(position(c, i)));
    for (int64_t b = 0; b < bands; ++b) z.push_back(static_cast<float>(std::cos(frequency(b) * w)));
    for (int64_t b = 0; b < bands; ++b) z.push_back(static_cast<float>(-std::sin(frequency(b) * w)));
  }
  return Tensor::from(z, {1, end - begin, c.embedding});
}

// The first `time` positions of a grid (1, l_max, n) and what follows it.
Tensor first(const Tensor& grid, const Tensor& beyond, int64_t time) {
  const int64_t more = time - grid.size(1);
  return more <= 0 ? narrow(grid, 1, 0, time) : cat({grid, narrow(beyond, 1, 0, more)}, 1);
}

}  // namespace

PositionalEmbedding::PositionalEmbedding(const HyenaFilterConfig& c) {
  const Tensor z = features(c, 0, c.l_max);
  z_ = c.train_positions ? parameter("z", z) : buffer("z", z);
  t_ = buffer("t", reshape(linspace(0, c.l_max > 1 ? 1 : 0, c.l_max), {1, c.l_max, 1}));
  if (c.extend_to <= c.l_max) return;
  z_beyond_ = buffer("z_beyond", features(c, c.l_max, c.extend_to), false);
  std::vector<float> t;
  for (int64_t i = c.l_max; i < c.extend_to; ++i) t.push_back(static_cast<float>(position(c, i)));
  t_beyond_ = buffer("t_beyond", Tensor::from(t, {1, c.extend_to - c.l_max, 1}), false);
}

Tensor PositionalEmbedding::z(int64_t time) const { return first(z_, z_beyond_, time); }
Tensor PositionalEmbedding::t(int64_t time) const { return first(t_, t_beyond_, time); }

}  // namespace mahia::nn
