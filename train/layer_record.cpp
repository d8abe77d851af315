// SPDX-License-Identifier: Apache-2.0
#include "train/layer_record.hpp"

#include <algorithm>

namespace mahia::train {

LayerRecord layer_record(const Tensor& counts, const nn::MoeStats& last) {
  const nn::MoeStats step{.counts = counts, .probabilities = {}};
  LayerRecord layer;
  layer.pairs = counts.to_vector<int64_t>();
  layer.max_violation = step.max_violation();
  layer.variation = step.coefficient_of_variation();
  layer.entropy = step.entropy();
  layer.mean_top1 = last.mean_top1();
  layer.near_ties = last.near_tie_share();
  if (last.capacity > 0 || last.fates.lost.defined()) layer.drop_rate = last.drop_rate();
  if (last.capacity > 0) layer.capacity_use = last.capacity_use();
  if (last.fates.hops.defined()) {
    const nn::PairTally tally = last.tally();
    layer.rerouted = static_cast<double>(tally.rerouted) / static_cast<double>(std::max<int64_t>(1, tally.routed));
    layer.longest_hop = tally.longest_hop;
  }
  return layer;
}

void DeadExperts::note(std::vector<LayerRecord>& layers) {
  std::vector<std::vector<int64_t>> now;
  for (const LayerRecord& layer : layers) now.push_back(layer.pairs);
  const auto has_form_of = [&](const auto& line) {
    return std::ranges::equal(
        line, now, {}, [](const auto& e) { return e.size(); }, [](const auto& e) { return e.size(); });
  };
  if (!pairs_.empty() && !has_form_of(pairs_.back())) pairs_.clear();  // of another model
  pairs_.push_back(std::move(now));
  if (pairs_.size() > window) pairs_.pop_front();
  for (size_t l = 0; l < layers.size(); ++l) {
    layers[l].dead_experts = 0;
    for (size_t e = 0; e < layers[l].pairs.size(); ++e) {
      layers[l].dead_experts += std::ranges::all_of(pairs_, [&](const auto& line) { return line.at(l).at(e) == 0; });
    }
  }
}

}  // namespace mahia::train
