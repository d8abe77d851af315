// SPDX-License-Identifier: Apache-2.0
#include "nn/hyena.hpp"

#include "ops/binary.hpp"
#include "ops/long_conv.hpp"
#include "ops/shape.hpp"

namespace mahia::nn {
namespace {

HyenaFilterConfig filter_config(const HyenaConfig& c) {
  HyenaFilterConfig f = c.filter;
  f.l_max = c.l_max;
  f.channels = c.width;
  f.order = c.order;
  return f;
}

}  // namespace

HyenaOperator::HyenaOperator(const HyenaConfig& c)
    : config_(c),
      in_proj_(add<Linear>("in_proj", c.width, (c.order + 1) * c.width)),
      out_proj_(add<Linear>("out_proj", c.width, c.width)),
      short_filter_(add<Conv1d>("short_filter", (c.order + 1) * c.width, (c.order + 1) * c.width, c.short_filter,
                                Conv1dOptions{.padding = Padding::causal, .groups = (c.order + 1) * c.width})),
      filter_fn_(add<HyenaFilter>("filter_fn", filter_config(c))),
      dropout_(add<Dropout>("dropout", c.dropout)) {}

Tensor HyenaOperator::operator()(const Tensor& u) const {
  check<ShapeError>(u.rank() == 3 && u.size(1) >= 1 && u.size(2) == config_.width, "HyenaOperator: needs (B, T, ",
                    config_.width, ") with T >= 1, got ", u);
  const int64_t order = config_.order, time = u.size(1);
  const Tensor z = transpose(in_proj_.to_channels(u), 0, 1);    // (B, (N+1) D, T), channel-first in memory
  const Tensors parts = chunk(short_filter_(z), order + 1, 1);  // x^0 .. x^{N-1}, v: (B, D, T) each
  const Tensor filters = filter_fn_(time);                      // (D, N-1, T)
  Tensor v = parts.back();
  for (int64_t o = 0; o < order - 1; ++o) {
    const Tensor& gate = parts[static_cast<size_t>(order - 1 - o)];
    const bool drops = training() && config_.dropout > 0, last = o == order - 2;
    if (drops) v = dropout_(v * gate);
    v = long_conv(v, select(filters, 1, o),
                  {.skip = filter_fn_.skip(o),
                   .gate_before = drops ? Tensor() : gate,
                   .gate_after = last ? parts[0] : Tensor()});  // (B, D, T)
  }
  return out_proj_.from_channels(transpose(v, 0, 1));  // (B, T, D)
}

std::string HyenaOperator::summary() const { return message("width ", config_.width, ", order ", config_.order); }

}  // namespace mahia::nn
