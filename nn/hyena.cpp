// SPDX-License-Identifier: Apache-2.0
#include "nn/hyena.hpp"

#include <algorithm>

#include "ops/binary.hpp"
#include "ops/cat.hpp"
#include "ops/hyena_conv.hpp"
#include "ops/shape.hpp"

namespace mahia::nn {
namespace {

const HyenaConfig& checked(const HyenaConfig& c) {
  check<ValueError>(c.width >= 1 && c.inner_factor >= 1 && c.num_heads >= 1 && c.width % c.num_heads == 0,
                    "HyenaOperator: width ", c.width, " and inner_factor ", c.inner_factor,
                    " must be at least 1 and num_heads ", c.num_heads, " a divisor of width");
  check<ValueError>(c.num_blocks >= 1 && c.l_max % c.num_blocks == 0, "HyenaOperator: num_blocks ", c.num_blocks,
                    " must be a divisor of l_max ", c.l_max);
  check<ValueError>(c.short_filter >= 0, "HyenaOperator: short_filter is ", c.short_filter, ", must not be negative");
  return c;
}

// The skip is the forward filter's; a second one would only add to it.
HyenaFilterConfig filter_config(const HyenaConfig& c, bool is_reverse) {
  HyenaFilterConfig f = c.filter;
  f.l_max = c.l_max;
  f.channels = c.inner_factor * c.width / c.num_heads;
  f.order = c.order;
  f.skip = f.skip && !is_reverse;
  return f;
}

// Channels of x^0 .. x^{N-1}, v together.
int64_t projected(const HyenaConfig& c) { return (c.order + 1) * c.inner_factor * c.width; }

Conv1dOptions short_filter_options(const HyenaConfig& c) {
  return {.padding = c.bidirectional ? Padding::same : Padding::causal, .groups = projected(c)};
}

// The first taps of convolution o's filters: (channels, taps).
Tensor taps_of(const Tensor& filters, int64_t o, int64_t taps) {
  return narrow(select(filters, 1, o), 1, 0, std::min(taps, filters.size(2)));
}

}  // namespace

HyenaOperator::HyenaOperator(const HyenaConfig& c)
    : config_(checked(c)),
      in_proj_(add<Linear>("in_proj", c.width, projected(c))),
      out_proj_(add<Linear>("out_proj", c.inner_factor * c.width, c.width)),
      short_filter_(c.short_filter > 0 ? &add<Conv1d>("short_filter", projected(c), projected(c), c.short_filter,
                                                      short_filter_options(c))
                                       : nullptr),
      filter_fn_(add<HyenaFilter>("filter_fn", filter_config(c, false))),
      reverse_filter_fn_(c.bidirectional ? &add<HyenaFilter>("reverse_filter_fn", filter_config(c, true)) : nullptr),
      dropout_(add<Dropout>("dropout", c.dropout)) {}

Tensor HyenaOperator::operator()(const Tensor& u, const HyenaSequence& sequence) const {
  check_operands(u, sequence);
  const auto& [mask, documents] = sequence;
  const Tensor z = in_proj_.to_channels(kept(u, mask ? unsqueeze(mask, 2) : mask));  // ((N+1) D, B, T)
  const Tensor y = documents != nullptr && u.size(0) > 0 ? document_by_document(z, *documents, mask)
                                                         : recurrence(z, mask, filters(u.size(1)));  // (D, B, T)
  return out_proj_.from_channels(activated(y, config_.activation));                                  // (B, T, D)
}

// z ((N+1) D, B, T) -> (D, B, T).
Tensor HyenaOperator::recurrence(const Tensor& z, const Tensor& mask, const Filters& filters) const {
  const int64_t order = config_.order, batch = z.size(1), time = z.size(2);
  if (!mask && filters_as_it_reads(z)) return fused_recurrence(z, filters);
  Tensor local = kept(z, mask);
  if (short_filter_ != nullptr) local = kept(transpose((*short_filter_)(transpose(local, 0, 1)), 0, 1), mask);
  const Tensors x = chunk(in_blocks(local, block_length(time)), order + 1, 0);  // x^0 .. x^{N-1}, v
  Tensor v = x.back();
  for (int64_t o = 0; o < order - 1; ++o) {
    const bool is_last = o == order - 2;
    v = convolved(v, gate_of(x[static_cast<size_t>(order - 1 - o)]), is_last ? x[0] : Tensor(), filters, o);
  }
  return out_of_blocks(v, batch, time);
}

// Whether nothing happens between the short filter and the gates, so that hyena_conv does both. On a GPU the backward
// would take longer to filter anew than the forward saves: docs/hyena.md, "Short filters as signals are read".
bool HyenaOperator::filters_as_it_reads(const Tensor& z) const {
  const int64_t time = z.size(2);
  const bool drops = training() && config_.dropout > 0, is_one_block = block_length(time) == time;
  const bool is_plain = is_one_block && !drops && !config_.bidirectional && !config_.outer_mixing;
  return short_filter_ != nullptr && is_plain && z.device().type == DeviceType::cpu;
}

// The recurrence with the same bits, z short-filtered as it is read: the filtered signals are never in memory.
Tensor HyenaOperator::fused_recurrence(const Tensor& z, const Filters& filters) const {
  const int64_t order = config_.order, time = z.size(2);
  const Tensors x = chunk(z, order + 1, 0);  // x^0 .. x^{N-1}, v before the short filter, (D, B, T) each
  const Tensors weights = chunk(squeeze(short_filter_->weight(), 1), order + 1, 0);
  const Tensors biases = chunk(short_filter_->bias(), order + 1, 0);
  const auto filtered = [&](int64_t part) {
    const auto i = static_cast<size_t>(part);
    return ShortFiltered{transpose(x[i], 0, 1), weights[i], biases[i]};
  };
  ShortFiltered v = filtered(order);
  for (int64_t o = 0; o < order - 1; ++o) {
    const bool is_last = o == order - 2;
    v = {hyena_conv(v, taps_of(filters.forward, o, time),
                    {.skip = skip(o),
                     .gate_before = filtered(order - 1 - o),
                     .gate_after = is_last ? filtered(0) : ShortFiltered(),
                     .algorithm = config_.algorithm})};
  }
  return transpose(v.x, 0, 1);
}

// gate_after (h^(o) conv (v gate) + skip^(o) v gate); all (D, B, T).
Tensor HyenaOperator::convolved(const Tensor& v, const Tensor& gate, const Tensor& gate_after, const Filters& filters,
                                int64_t o) const {
  const int64_t time = v.size(2);
  const bool drops = training() && config_.dropout > 0, is_fused = !drops && !config_.bidirectional;
  const Tensor input = is_fused ? v : dropout_(v * gate);
  Tensor y = long_conv_channel_first(input, taps_of(filters.forward, o, time),
                                     {.skip = skip(o),
                                      .gate_before = is_fused ? gate : Tensor(),
                                      .gate_after = config_.bidirectional ? Tensor() : gate_after,
                                      .algorithm = config_.algorithm});
  if (!config_.bidirectional) return y;
  const Tensor mirrored =
      long_conv_channel_first(flip(input, {2}), taps_of(filters.backward, o, time), {.algorithm = config_.algorithm});
  y = y + flip(mirrored, {2});
  return gate_after ? y * gate_after : y;
}

// The recurrence over each document as a row of its own.
Tensor HyenaOperator::document_by_document(const Tensor& z, const PackedDocuments& documents,
                                           const Tensor& mask) const {
  const int64_t longest_row = documents.groups().back().length;
  const Filters all = filters(std::max(documents.longest(), std::min(longest_row, filter_fn_.longest())));
  Tensors parts;
  for (const PackedDocuments::Group& group : documents.groups()) {
    const Tensor inside =
        mask ? kept(select(PackedDocuments::gathered(unsqueeze(mask, 0), group), 0, 0), group.inside) : group.inside;
    parts.push_back(recurrence(PackedDocuments::gathered(z, group), inside, all));
  }
  return documents.scattered(parts);
}

// What multiplies v, from one of the x (D, B, T).
Tensor HyenaOperator::gate_of(const Tensor& x) const {
  return config_.outer_mixing ? summed_in_heads(x, config_.num_heads) : x;
}

Tensor HyenaOperator::skip(int64_t o) const { return for_each_head(filter_fn_.skip(o), config_.num_heads); }

// All filters for inputs of `time` steps.
HyenaOperator::Filters HyenaOperator::filters(int64_t time) const {
  const auto of = [&](const HyenaFilter& filter) {
    return for_each_head(filter(block_length(time)), config_.num_heads);
  };
  return {of(filter_fn_), reverse_filter_fn_ != nullptr ? of(*reverse_filter_fn_) : Tensor()};
}

// The steps that one long convolution runs over.
int64_t HyenaOperator::block_length(int64_t time) const {
  return config_.num_blocks == 1 ? time : std::min(time, config_.l_max / config_.num_blocks);
}

void HyenaOperator::check_operands(const Tensor& u, const HyenaSequence& sequence) const {
  const auto& [mask, documents] = sequence;
  check<ShapeError>(u.rank() == 3 && u.size(1) >= 1 && u.size(2) == config_.width, "HyenaOperator: needs (B, T, ",
                    config_.width, ") with T >= 1, got ", u);
  check<ShapeError>(!mask || (mask.dtype() == DType::boolean && mask.shape() == Shape{u.size(0), u.size(1)}),
                    "HyenaOperator: the mask must be bool (B, T): u ", u, ", mask ", mask);
  const bool fits = documents == nullptr || (documents->rows() == u.size(0) && documents->time() == u.size(1));
  check<ShapeError>(fits, "HyenaOperator: the documents are those of a batch of another shape than u ", u);
}

std::string HyenaOperator::summary() const { return message("width ", config_.width, ", order ", config_.order); }

}  // namespace mahia::nn
