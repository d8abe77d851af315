// SPDX-License-Identifier: Apache-2.0
#include "nn/router.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "nn/init.hpp"
#include "nn/routing_trace.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/compare.hpp"
#include "ops/hash_experts.hpp"
#include "ops/index.hpp"
#include "ops/linear.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "ops/softmax.hpp"

namespace mahia::nn {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

void check_options(const RouterConfig& c) {
  const RouterOptions& o = c.options;
  check<ValueError>(o.groups >= 1 && c.num_experts % o.groups == 0, "Router: ", c.num_experts,
                    " experts do not stand in ", o.groups, " equal groups");
  check<ValueError>(o.kept_groups >= 1 && o.kept_groups <= o.groups, "Router: kept_groups is ", o.kept_groups,
                    ", must be in [1, ", o.groups, "]");
  const int64_t open = o.kept_groups * (c.num_experts / o.groups);
  check<ValueError>(c.top_k <= open, "Router: top_k ", c.top_k, " exceeds the ", open, " experts of ", o.kept_groups,
                    " kept groups");
  check<ValueError>(o.jitter >= 0 && o.jitter < 1, "Router: jitter is ", o.jitter, ", must be in [0, 1)");
  const bool looks_ahead = c.kind == RouterKind::sinkhorn || c.kind == RouterKind::expert_choice;
  check<ValueError>(!looks_ahead || !c.causal,
                    "Router: ", c.kind == RouterKind::sinkhorn ? "sinkhorn" : "expert_choice",
                    " is refused in causal models: a token's experts depend on later tokens");
  check<ValueError>(c.kind != RouterKind::expert_choice || (!o.select_bias && o.groups == 1),
                    "Router: expert_choice has no use for a selection bias or groups: no token chooses");
  check<ValueError>(c.kind != RouterKind::hash || (!o.select_bias && o.groups == 1 && o.jitter == 0 && !o.noisy),
                    "Router: hash has nothing that a bias, groups, jitter or noise could change");
}

RouterConfig checked(RouterConfig c, const std::string& path) {
  check<ValueError>(c.width >= 1 && c.num_experts >= 1, "Router: width ", c.width, " and num_experts ", c.num_experts,
                    " must be at least 1");
  check<ValueError>(c.top_k >= 1, "Router: top_k is ", c.top_k, ", must be at least 1");
  if (c.top_k > c.num_experts) {
    warn(message(path, ": top_k ", c.top_k, " is clamped to the ", c.num_experts, " experts there are"));
    c.top_k = c.num_experts;
  }
  check_options(c);
  const bool chooses = c.kind != RouterKind::hash && c.kind != RouterKind::expert_choice;
  const bool normalized = c.renormalize.value_or(c.top_k > 1) || c.kind == RouterKind::post_softmax;
  if (chooses && c.top_k == 1 && c.num_experts > 1 && normalized) {
    warn(message(path, ": with top_k 1 a renormalised weight is always 1, so the task gives the router no gradient"));
  }
  return c;
}

// Softmax needs a finite maximum; it is NaN when one of the logits is.
void check_logits(const Tensor& logits) {
  if (logits.numel() == 0) return;
  kernels::check_finite(amax(logits.detach(), {1}), "Router: the largest logit of token");
}

// exp(z) with its rows scaled to sum to k and its columns to k N / E, eight times in turn (Sinkhorn 1964).
Tensor balanced(const Tensor& logits, int64_t k) {
  constexpr double tiny = 1e-37;  // where a whole column underflows
  const double row = static_cast<double>(k);
  const double column = row * static_cast<double>(logits.size(0)) / static_cast<double>(logits.size(1));
  const auto scaled = [&](const Tensor& m, int64_t axis, double total) {
    return m * (total / clamp(sum(m, {axis}, true), tiny, infinity));
  };
  Tensor m = exp(logits - amax(logits, {1}, true));
  for (int i = 0; i < 8; ++i) m = scaled(scaled(m, 1, row), 0, column);
  return m;
}

}  // namespace

Router::Router(const RouterConfig& c) : config_(checked(c, path())) {
  if (c.kind == RouterKind::hash) {
    hash_key_ = buffer("hash_key", Tensor::from({static_cast<int64_t>(key("hash_key"))}, {1}));
    return;
  }
  weight_ = parameter("weight", init::fan_in_uniform({c.num_experts, c.width}, c.width, init_call("weight")));
  if (c.options.noisy) noise_weight_ = parameter("noise_weight", zeros({c.num_experts, c.width}));
  if (c.options.select_bias) select_bias_ = buffer("select_bias", zeros({c.num_experts}));
}

Tensor Router::logits_of(Tensor x) const {
  const double jitter = training() ? config_.options.jitter : 0;
  if (jitter > 0) {
    const Tensor u = rand(x.shape(), next_random_call(key("jitter")), x.dtype(), x.device());
    x = x * (u * (2 * jitter) + (1 - jitter));
  }
  const Tensor z = linear(x, mahia::to(weight_, x.dtype()));
  if (!training() || !config_.options.noisy) return z;
  const Tensor noise = randn(z.shape(), next_random_call(key("noise")), z.dtype(), z.device());
  return z + noise * softplus(linear(x, mahia::to(noise_weight_, x.dtype())));
}

Tensor Router::open_groups(const Tensor& scores) const {
  const int64_t groups = config_.options.groups, size = config_.num_experts / groups;
  const Tensor grouped = reshape(scores, {scores.size(0), groups, size});
  const int64_t best = config_.kind == RouterKind::sigmoid ? std::min<int64_t>(2, size) : 1;
  const Tensor worth = sum(topk(grouped, best).values, {2});                              // (N, groups)
  const Tensor kept = one_hot(topk(worth, config_.options.kept_groups).indices, groups);  // (N, kept, groups)
  const Tensor open = gt(sum(kept, {1}), 0);                                              // (N, groups)
  return reshape(where(unsqueeze(open, 2), grouped, full({}, -infinity, scores.dtype(), scores.device())),
                 scores.shape());
}

Tensor Router::steered(Tensor scores) const {
  const NoGrad no_grad;
  const RouterOptions& o = config_.options;
  if (o.select_bias) scores = scores + mahia::to(select_bias_, scores.dtype());
  return o.kept_groups < o.groups ? open_groups(scores) : scores;
}

Sorted Router::choose(const Tensor& values, Tensor& scores) const {
  const RouterOptions& o = config_.options;
  const Tensor given = replayed_choice(values.size(0), config_.top_k, config_.num_experts);
  if (given.defined()) {
    scores = steered(scores.detach());
    return {gather(values, 1, given), given};
  }
  if (!o.select_bias && o.kept_groups == o.groups && !balances()) {
    scores = values.detach();
    return topk(values, config_.top_k);
  }
  scores = steered(scores.detach());
  const Tensor indices = topk(scores, config_.top_k).indices;
  return {gather(values, 1, indices), indices};
}

bool Router::renormalizes() const {
  const bool by_default = config_.top_k > 1 && config_.kind != RouterKind::expert_choice;
  return config_.renormalize.value_or(by_default) || config_.kind == RouterKind::post_softmax;
}

Routing Router::hashed(const Tensor& x, const Tensor& ids) const {
  check<ValueError>(ids.defined(), "Router: hash needs the tokens' ids beside ", x);
  check<ShapeError>(ids.shape() == Shape{x.size(0)}, "Router: hash needs an id for each token of ", x, ", got ", ids);
  const DType dtype = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
  const double share = 1 / static_cast<double>(config_.top_k);
  Routing r;
  const Tensor given = replayed_choice(x.size(0), config_.top_k, config_.num_experts);
  r.indices = given.defined() ? given : hash_experts(ids, hash_key_, config_.top_k, config_.num_experts);
  note_choice(r.indices, config_.num_experts);
  r.weights = full(r.indices.shape(), share, dtype, x.device());
  r.probabilities = mahia::to(sum(one_hot(r.indices, config_.num_experts), {1}), dtype) * share;
  return r;
}

Routing Router::operator()(const Tensor& x, const Tensor& ids) const {
  check<ShapeError>(x.rank() == 2 && x.size(1) == config_.width, "Router: needs tokens (N, ", config_.width, "), got ",
                    x);
  if (config_.kind == RouterKind::hash) return hashed(x, ids);
  Routing r;
  r.logits = logits_of(mahia::to(x, x.dtype() == DType::f64 ? DType::f64 : DType::f32));
  check_logits(r.logits);
  r.probabilities = softmax(r.logits);
  const bool sigmoidal = config_.kind == RouterKind::sigmoid;
  r.values = sigmoidal ? sigmoid(r.logits) : r.probabilities;
  r.scores = balances() ? balanced(r.logits.detach(), config_.top_k) : r.values.detach();
  if (config_.kind == RouterKind::expert_choice) {
    check<ValueError>(!routing_is_traced(), "Router: with expert_choice no token chooses: nothing to record or replay");
    return r;
  }
  if (config_.kind == RouterKind::post_softmax) {
    const Sorted chosen = choose(r.logits, r.scores);
    r.indices = chosen.indices;
    note_choice(r.indices, config_.num_experts);
    r.weights = softmax(chosen.values);
    return r;
  }
  const Sorted chosen = choose(r.values, r.scores);
  r.indices = chosen.indices;
  note_choice(r.indices, config_.num_experts);
  r.weights = chosen.values;
  if (renormalizes()) {
    const Tensor total = sum(chosen.values, {1}, true);
    r.weights = chosen.values / (sigmoidal ? total + 1e-20 : total);
  }
  return r;
}

Tensor Router::weights_for(const Routing& r, const Tensor& experts) const {
  const Tensor none = zeros({}, r.values.dtype(), r.values.device());
  const Tensor used = where(ge(experts, 0), gather(r.values, 1, maximum(experts, 0 * experts)), none);
  if (!renormalizes()) return used;
  const Tensor total = sum(used, {1}, true);
  constexpr double tiny = 1e-37;  // where a token uses no expert
  return used / (config_.kind == RouterKind::sigmoid ? total + 1e-20 : clamp(total, tiny, infinity));
}

void Router::update_select_bias(const Tensor& counts, double rate) const {
  check<ValueError>(select_bias_.defined(), "Router: update_select_bias needs the option select_bias");
  check<ShapeError>(counts.shape() == select_bias_.shape(), "Router: update_select_bias needs counts (",
                    config_.num_experts, "), got ", counts);
  const NoGrad no_grad;
  const Tensor n = mahia::to(counts, DType::f32), missing = mean(n) - n;
  const Tensor sign = mahia::to(gt(missing, 0), DType::f32) - mahia::to(lt(missing, 0), DType::f32);
  commit(select_bias_ + sign * rate, select_bias_);
}

std::string Router::summary() const {
  constexpr const char* names[] = {"softmax, top ",  "top-k softmax, top ", "sigmoid, top ",
                                   "sinkhorn, top ", "expert choice, ",     "hash, "};
  return message(names[static_cast<size_t>(config_.kind)], config_.top_k, " of ", config_.num_experts);
}

}  // namespace mahia::nn
