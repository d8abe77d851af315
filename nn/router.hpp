// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "module.hpp"

namespace mahia::nn {

enum class RouterKind : uint8_t {
  pre_softmax,   // R1: p = softmax(z), chosen = topk(p), weights p or p / their sum
  post_softmax,  // R2: chosen = topk(z), weights = softmax of the chosen logits
};

struct RouterConfig {
  int64_t width = 64;       // D
  int64_t num_experts = 8;  // E
  int64_t top_k = 2;        // k; more than E is clamped to E with a warning
  RouterKind kind = RouterKind::pre_softmax;
  // pre_softmax: whether the chosen probabilities are divided by their sum. Default: for k > 1 only, because with k = 1
  // the weight would be the constant 1 and the router would learn nothing from the task.
  std::optional<bool> renormalize = {};
};

// Everything a layer needs to know about who goes where; all in f32 whatever the model's dtype.
struct Routing {
  Tensor logits;         // (N, E), z
  Tensor probabilities;  // (N, E), softmax(z): what auxiliary losses use
  Tensor indices;        // (N, k) i64, chosen experts in descending order; ties by the lowest expert
  Tensor weights;        // (N, k), combine weights g
};

// Chooses k of E experts per token by a linear map: weight (E, D), U(-1/sqrt(D), 1/sqrt(D)) at first.
class Router : public Module {
 public:
  explicit Router(const RouterConfig& c);
  // x (N, D). Throws ValueError naming the token when a logit is NaN or infinite, ShapeError.
  Routing operator()(const Tensor& x) const;
  const RouterConfig& config() const { return config_; }
  std::string summary() const override;

 private:
  RouterConfig config_;
  Tensor weight_;
};

}  // namespace mahia::nn
