// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "../ops/sort.hpp"
#include "module.hpp"

namespace mahia::nn {

enum class RouterKind : uint8_t {
  pre_softmax,   // R1: p = softmax(z), chosen = topk(p), weights p or p / their sum
  post_softmax,  // R2: chosen = topk(z), weights = softmax of the chosen logits
  sigmoid,       // R3 (DeepSeek-AI 2024): s = sigmoid(z), chosen = topk(s), weights s or s / (their sum + 1e-20)
  sinkhorn,  // R12 (Clark et al. 2022): while training, chosen = topk of exp(z) scaled so that the experts' sums are
             // equal; weights, and choices in eval mode, as pre_softmax. Not causal: a token's experts depend on
             // the whole batch
  expert_choice,  // R11 (Zhou et al. 2022): each expert takes the tokens of the highest p for it, as many as its
                  // capacity; the weight is p. Not causal either
  hash,  // R14 (Roller et al. 2021): the experts of a token are a fixed hash of its id (see hash_experts), each of
         // weight 1/k. There is nothing to learn, and a buffer `hash_key` in place of the weight
};

// What may steer the choice besides the logits.
struct RouterOptions {
  // A persistent f32 buffer `select_bias` (E), zero at first: added to p or s for the choice, never to the weights. See
  // update_select_bias.
  bool select_bias = false;
  // The experts stand in `groups` equal groups in order; only the best `kept_groups` of a token are open to it. A group
  // is worth its largest score, with sigmoid the sum of its two largest (DeepSeek-AI 2024).
  int64_t groups = 1, kept_groups = 1;
  // While training, the router sees x times uniform numbers in [1 - jitter, 1 + jitter) (Fedus et al. 2022).
  double jitter = 0;
  // While training, z + normal numbers times softplus(noise_weight x) stands for z (Shazeer et al. 2017, equation 4):
  // one more parameter `noise_weight` (E, D), zero at first.
  bool noisy = false;
};

struct RouterConfig {
  int64_t width = 64;       // D
  int64_t num_experts = 8;  // E
  int64_t top_k = 2;        // k; more than E is clamped to E with a warning
  RouterKind kind = RouterKind::pre_softmax;
  // All but post_softmax: whether the chosen numbers are divided by their sum. Default: for k > 1 only, because with
  // k = 1 the weight would be the constant 1 and the router would learn nothing from the task; never for expert_choice.
  std::optional<bool> renormalize = {};
  RouterOptions options = {};
  bool causal = true;  // a token's experts must not depend on later tokens: refuses sinkhorn and expert_choice
};

// Everything a layer needs to know about who goes where; all in f32 whatever the model's dtype. With expert_choice,
// indices and weights are undefined: the experts choose when tokens are given their places. With hash, logits, values
// and scores are, and probabilities are 1/k at the chosen experts.
struct Routing {
  Tensor logits;         // (N, E), z
  Tensor probabilities;  // (N, E), softmax(z): what auxiliary losses use
  Tensor indices;        // (N, k) i64, chosen experts in descending order; ties by the lowest expert
  Tensor weights;        // (N, k), combine weights g
  Tensor values;         // (N, E): p or s, what weights are made of
  Tensor scores;         // (N, E), without gradient: by which experts are chosen; -infinity for those that are closed
};

// Chooses k of E experts per token by a linear map: weight (E, D), U(-1/sqrt(D), 1/sqrt(D)) at first.
class Router : public Module {
 public:
  // Throws ValueError for sizes that make no sense, fewer experts in the kept groups than top_k, jitter outside [0, 1),
  // sinkhorn and expert_choice where the choice must be causal, and options for what a kind does not have.
  explicit Router(const RouterConfig& c);
  // x (N, D); ids i64 (N), which hash needs and the others do not look at. Throws ValueError naming the token when a
  // logit is NaN or infinite, and without ids that are needed; ShapeError.
  Routing operator()(const Tensor& x, const Tensor& ids = {}) const;
  // The combine weights of other experts than the chosen: experts i64 (N, j), 0 where it is no_expert.
  Tensor weights_for(const Routing& routing, const Tensor& experts) const;
  // Loss-free balancing (Wang et al. 2024): select_bias_e += rate sign(mean n - n_e), for the pairs per expert counts
  // (E) of one optimizer step, on the device. Throws ValueError for a router without that bias, ShapeError.
  void update_select_bias(const Tensor& counts, double rate = 1e-3) const;
  const RouterConfig& config() const { return config_; }
  bool renormalizes() const;  // whether a token's weights sum to 1
  std::string summary() const override;

 private:
  bool balances() const { return config_.kind == RouterKind::sinkhorn && training(); }
  Tensor logits_of(Tensor x) const;
  Routing hashed(const Tensor& x, const Tensor& ids) const;
  // The chosen experts, and their numbers among `values` (N, E); `scores` decide wherever something steers the choice,
  // and become those that did.
  Sorted choose(const Tensor& values, Tensor& scores) const;
  Tensor steered(Tensor scores) const;  // with the bias, and -infinity for experts outside the kept groups
  Tensor open_groups(const Tensor& scores) const;

  RouterConfig config_;
  Tensor weight_, noise_weight_, select_bias_, hash_key_;
};

}  // namespace mahia::nn
