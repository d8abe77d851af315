// SPDX-License-Identifier: Apache-2.0
#include "train/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.hpp"

namespace mahia::train {
namespace {

// After Keskar et al. 2019 (CTRL), with negative logits multiplied, so that the penalty lowers them too.
std::vector<double> penalised(std::span<const float> logits, const std::vector<bool>& seen, double penalty) {
  std::vector<double> result(logits.begin(), logits.end());
  for (size_t i = 0; i < result.size(); ++i) {
    check<ValueError>(!std::isnan(result[i]), "sample: the logit of token ", static_cast<int64_t>(i), " is NaN");
    if (penalty != 1 && seen[i]) result[i] = result[i] > 0 ? result[i] / penalty : result[i] * penalty;
  }
  return result;
}

// The tokens that top_k leaves, likeliest first where top_p or top_k ask for an order.
std::vector<size_t> candidates(const std::vector<double>& logits, const SamplingOptions& o) {
  std::vector<size_t> tokens(logits.size());
  std::iota(tokens.begin(), tokens.end(), size_t{0});
  const size_t count = o.top_k > 0 ? std::min(tokens.size(), static_cast<size_t>(o.top_k)) : tokens.size();
  if (count == tokens.size() && o.top_p == 1) return tokens;
  const auto middle = tokens.begin() + static_cast<std::ptrdiff_t>(count);
  std::partial_sort(tokens.begin(), middle, tokens.end(),
                    [&](size_t a, size_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); });
  tokens.resize(count);
  return tokens;
}

}  // namespace

void validate(const SamplingOptions& o) {
  check<ValueError>(std::isfinite(o.repetition_penalty) && o.repetition_penalty > 0, "repetition_penalty is ",
                    o.repetition_penalty, ", must be a positive number");
  check<ValueError>(std::isfinite(o.temperature) && o.temperature >= 0, "temperature is ", o.temperature,
                    ", must be a number of at least 0");
  check<ValueError>(o.top_k >= 0, "top_k is ", o.top_k, ", must not be negative");
  check<ValueError>(o.top_p > 0 && o.top_p <= 1, "top_p is ", o.top_p, ", must be in (0, 1]");
}

int64_t sample(std::span<const float> logits, const std::vector<bool>& seen, const SamplingOptions& o, double u) {
  const std::vector<double> adjusted = penalised(logits, seen, o.repetition_penalty);
  const double largest = adjusted.empty() ? -INFINITY : *std::max_element(adjusted.begin(), adjusted.end());
  check<ValueError>(std::isfinite(largest), "sample: the largest of ", static_cast<int64_t>(logits.size()),
                    " logits is ", largest, ", must be finite");
  if (o.temperature == 0) return std::find(adjusted.begin(), adjusted.end(), largest) - adjusted.begin();
  const std::vector<size_t> tokens = candidates(adjusted, o);
  std::vector<double> mass;  // running sums of unnormalised probabilities
  double total = 0;
  for (const size_t token : tokens) mass.push_back(total += std::exp((adjusted[token] - largest) / o.temperature));
  if (o.top_p < 1) {
    mass.erase(std::lower_bound(mass.begin(), mass.end() - 1, o.top_p * total) + 1, mass.end());
    total = mass.back();
  }
  const auto hit = std::upper_bound(mass.begin(), mass.end() - 1, u * total);
  return static_cast<int64_t>(tokens[static_cast<size_t>(hit - mass.begin())]);
}

}  // namespace mahia::train
