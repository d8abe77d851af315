// SPDX-License-Identifier: Apache-2.0
#include "train/what_if.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/factory.hpp"
#include "nn/capacity.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"

namespace mahia::train {
namespace {

std::vector<int64_t> counts_of(const nn::RouterChoice& choice) {
  std::vector<int64_t> n(static_cast<size_t>(choice.num_experts));
  for (const int64_t e : choice.indices.to_vector<int64_t>()) ++n[static_cast<size_t>(e)];
  return n;
}

double above_mean(const std::vector<int64_t>& n) {
  const double total = static_cast<double>(std::reduce(n.begin(), n.end()));
  return total > 0 ? static_cast<double>(*std::ranges::max_element(n)) * static_cast<double>(n.size()) / total - 1 : 0;
}

// The share of first choices that find no slot.
double first_choices_dropped(const nn::RouterChoice& choice, int64_t capacity, nn::SlotPriority priority) {
  const Tensor scores = zeros(choice.indices.shape());
  const nn::Admission admitted = nn::admit(choice.indices, scores, choice.num_experts, capacity, priority);
  return 1 - mean(to(select(admitted.kept, 1, 0), DType::f64)).item<double>();
}

WhatIf::Capacity with_capacity(const nn::RouterChoice& choice, const std::vector<int64_t>& n, double factor) {
  const int64_t tokens = choice.indices.size(0), k = choice.indices.size(1);
  const int64_t capacity = nn::expert_capacity(factor, 0, k, tokens, choice.num_experts);
  int64_t dropped = 0;
  for (const int64_t pairs : n) dropped += std::max<int64_t>(0, pairs - capacity);
  return {factor, static_cast<double>(dropped) / static_cast<double>(tokens * k),
          first_choices_dropped(choice, capacity, nn::SlotPriority::position),
          first_choices_dropped(choice, capacity, nn::SlotPriority::choice_major)};
}

std::vector<int64_t> placed_in_order(int64_t experts, int64_t devices) {
  std::vector<int64_t> place;
  for (int64_t e = 0; e < experts; ++e) place.push_back(e * devices / experts);
  return place;
}

double uneven(const std::vector<int64_t>& n, const std::vector<int64_t>& place, int64_t devices) {
  std::vector<int64_t> load(static_cast<size_t>(devices));
  for (size_t e = 0; e < n.size(); ++e) load[static_cast<size_t>(place[e])] += n[e];
  return above_mean(load);
}

// The choices of one layer in all recorded micro-batches.
using Calls = std::vector<nn::RouterChoice>;

std::vector<Calls> calls_by_layer(const std::string& folder) {
  std::vector<Calls> layers;
  for (const int64_t step : routed_steps(folder)) {
    const RoutedStep routed = load_routing(folder, step);
    if (layers.empty()) layers.resize(static_cast<size_t>(routed.layers()));
    check<ValueError>(std::ssize(layers) == routed.layers(), folder, ": step ", step, " has ", routed.layers(),
                      " layers, those before have ", std::ssize(layers));
    for (size_t i = 0; i < routed.choices.size(); ++i) {
      Calls& calls = layers[i % layers.size()];
      const nn::RouterChoice& choice = routed.choices[i];
      check<ValueError>(calls.empty() || (calls[0].num_experts == choice.num_experts &&
                                          calls[0].indices.size(1) == choice.indices.size(1)),
                        folder, ": step ", step, " has ", choice.indices.size(1), " of ", choice.num_experts,
                        " experts, those before have others");
      if (choice.indices.size(0) > 0) calls.push_back(choice);
    }
  }
  return layers;
}

WhatIf what_if_of(const Calls& calls, const WhatIfOptions& options) {
  WhatIf layer;
  if (calls.empty()) return layer;
  layer.num_experts = calls[0].num_experts;
  layer.top_k = calls[0].indices.size(1);
  layer.pairs.resize(static_cast<size_t>(layer.num_experts));
  for (const double factor : options.capacities) layer.capacities.push_back({.factor = factor});
  const double share = 1 / static_cast<double>(calls.size());
  std::vector<std::vector<int64_t>> counts;
  for (const nn::RouterChoice& call : calls) {
    const std::vector<int64_t>& n = counts.emplace_back(counts_of(call));
    std::ranges::transform(n, layer.pairs, layer.pairs.begin(), std::plus());
    layer.max_violation += share * above_mean(n);
    for (WhatIf::Capacity& sum : layer.capacities) {
      const WhatIf::Capacity c = with_capacity(call, n, sum.factor);
      sum.drop_rate += share * c.drop_rate;
      sum.first_by_position += share * c.first_by_position;
      sum.first_by_choice_major += share * c.first_by_choice_major;
    }
  }
  layer.unused = std::ranges::count(layer.pairs, 0);
  for (const int64_t devices : options.devices) {
    WhatIf::Devices d{.count = devices};
    const auto in_order = placed_in_order(layer.num_experts, devices), by_load = placed_by_load(layer.pairs, devices);
    for (const std::vector<int64_t>& n : counts) {
      d.in_order += share * uneven(n, in_order, devices);
      d.by_load += share * uneven(n, by_load, devices);
    }
    layer.devices.push_back(d);
  }
  return layer;
}

}  // namespace

std::vector<int64_t> placed_by_load(const std::vector<int64_t>& pairs, int64_t devices) {
  const int64_t experts = std::ssize(pairs), room = (experts + devices - 1) / devices;
  std::vector<size_t> order(pairs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, std::greater<>(), [&](size_t e) { return pairs[e]; });
  std::vector<int64_t> place(pairs.size()), load(static_cast<size_t>(devices)), held(load.size());
  for (const size_t e : order) {
    size_t best = load.size();
    for (size_t d = 0; d < load.size(); ++d) {
      if (held[d] < room && (best == load.size() || load[d] < load[best])) best = d;
    }
    place[e] = static_cast<int64_t>(best);
    load[best] += pairs[e];
    ++held[best];
  }
  return place;
}

std::vector<WhatIf> what_if(const std::string& folder, const WhatIfOptions& options) {
  check<ValueError>(std::ranges::all_of(options.devices, [](int64_t d) { return d >= 1; }),
                    "what-if: a number of devices must be at least 1");
  check<ValueError>(std::ranges::all_of(options.capacities, [](double c) { return c >= 1e-6 && c <= 1e6; }),
                    "what-if: a capacity factor must be from 1e-6 to 1e6");
  std::vector<WhatIf> layers;
  for (const Calls& calls : calls_by_layer(folder)) layers.push_back(what_if_of(calls, options));
  return layers;
}

std::string to_table(const std::vector<WhatIf>& layers) {
  std::string text;
  for (size_t l = 0; l < layers.size(); ++l) {
    const WhatIf& w = layers[l];
    text += fmt::format("layer {}: top {} of {} experts, MaxVio {:.3f}, {} never used\n", l, w.top_k, w.num_experts,
                        w.max_violation, w.unused);
    for (const WhatIf::Capacity& c : w.capacities) {
      text += fmt::format(
          "  capacity {:<5g} drops {:6.2f} % of the pairs; of first choices {:6.2f} % by position, {:6.2f} % "
          "choice-major\n",
          c.factor, 100 * c.drop_rate, 100 * c.first_by_position, 100 * c.first_by_choice_major);
    }
    for (const WhatIf::Devices& d : w.devices) {
      text += fmt::format("  {:>3} devices: the busiest has {:6.2f} % more than the mean in order, {:6.2f} % by load\n",
                          d.count, 100 * d.in_order, 100 * d.by_load);
    }
  }
  return text;
}

std::string to_json(const std::vector<WhatIf>& layers) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const WhatIf& w : layers) {
    nlohmann::ordered_json layer = {{"experts", w.num_experts},
                                    {"top_k", w.top_k},
                                    {"pairs", w.pairs},
                                    {"max_violation", w.max_violation},
                                    {"unused", w.unused}};
    for (const WhatIf::Capacity& c : w.capacities) {
      layer["capacities"].push_back({{"factor", c.factor},
                                     {"drop_rate", c.drop_rate},
                                     {"first_by_position", c.first_by_position},
                                     {"first_by_choice_major", c.first_by_choice_major}});
    }
    for (const WhatIf::Devices& d : w.devices)
      layer["devices"].push_back({{"count", d.count}, {"in_order", d.in_order}, {"by_load", d.by_load}});
    all.push_back(layer);
  }
  return nlohmann::ordered_json{{"layers", all}}.dump();
}

}  // namespace mahia::train
