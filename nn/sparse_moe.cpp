// SPDX-License-Identifier: Apache-2.0
#include "nn/sparse_moe.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>

#include "autograd/grad_mode.hpp"
#include "core/factory.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/compare.hpp"
#include "ops/index.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "ops/sort.hpp"

namespace mahia::nn {

std::vector<double> MoeStats::load() const {
  std::vector<double> n = counts.to_vector<double>();
  const double total = std::accumulate(n.begin(), n.end(), 0.0);
  for (double& x : n) x = total > 0 ? x / total : 1 / static_cast<double>(n.size());
  return n;
}

double MoeStats::max_violation() const {
  const std::vector<double> f = load();
  return *std::max_element(f.begin(), f.end()) * static_cast<double>(f.size()) - 1;
}

double MoeStats::coefficient_of_variation() const {
  double squares = 0;
  const std::vector<double> f = load();
  const auto experts = static_cast<double>(f.size());
  for (const double x : f) squares += (x * experts - 1) * (x * experts - 1);
  return std::sqrt(squares / experts);
}

double MoeStats::entropy() const {
  double h = 0;
  const std::vector<double> f = load();
  for (const double x : f) h -= x > 0 ? x * std::log(x) : 0;
  return f.size() > 1 ? h / std::log(static_cast<double>(f.size())) : 1;
}

double MoeStats::drop_rate() const {
  if (!kept.defined()) return 0;
  const NoGrad no_grad;
  const double pairs = sum(counts).item<double>();
  return pairs > 0 ? 1 - sum(kept).item<double>() / pairs : 0;
}

double MoeStats::mean_top1() const {
  const NoGrad no_grad;
  return probabilities.numel() > 0 ? mean(amax(probabilities, {1})).item<double>() : 0;
}

double MoeStats::near_tie_share(double gap) const {
  if (probabilities.numel() == 0 || top_k >= probabilities.size(1)) return 0;
  const NoGrad no_grad;
  const Tensor top = topk(probabilities, top_k + 1).values;  // (N, k + 1)
  const Tensor near = lt(select(top, 1, top_k - 1) - select(top, 1, top_k), gap);
  return sum(near).item<double>() / static_cast<double>(near.numel());
}

namespace {

// B of x (B.., T, D).
int64_t sequences_of(const Tensor& x) {
  int64_t batch = 1;
  for (int i = 0; i + 2 < x.rank(); ++i) batch *= x.size(i);
  return batch;
}

MoeConfig checked(const MoeConfig& c) {
  for (const double factor : {c.capacity.train_factor, c.capacity.eval_factor}) {
    expert_capacity(factor, c.capacity.minimum, 1, 1, 1);  // throws for one that makes no sense
  }
  return c;
}

// The mask of x (.., D) as bool (N).
Tensor valid_tokens(const Tensor& x, const Tensor& mask) {
  if (!mask.defined()) return mask;
  bool fits = mask.dtype() == DType::boolean && mask.rank() == x.rank() - 1;
  for (int i = 0; fits && i < mask.rank(); ++i) fits = mask.size(i) == x.size(i);
  check<ShapeError>(fits, "SparseMoETopK: the mask must be a bool for each token of ", x, ", got ", mask);
  return reshape(mask, {mask.numel()});
}

// Every pair with an expert is served or dropped, and no expert serves more than its capacity.
[[maybe_unused]] bool conserves(const Admission& admitted, const Tensor& indices, const Tensor& served,
                                int64_t capacity) {
  const NoGrad no_grad;
  const Tensor routed = ge(indices, 0);
  const int64_t pairs = sum(routed).item<int64_t>(), kept = sum(admitted.kept).item<int64_t>();
  const std::vector<int64_t> n = served.to_vector<int64_t>();
  return std::accumulate(n.begin(), n.end(), int64_t{0}) == kept && sum(admitted.counts).item<int64_t>() == pairs &&
         std::ranges::all_of(n, [&](int64_t each) { return each <= capacity; });
}

}  // namespace

SparseMoETopK::SparseMoETopK(const MoeConfig& c)
    : config_(checked(c)),
      router_(add<Router>("router", RouterConfig{.width = c.width,
                                                 .num_experts = c.num_experts,
                                                 .top_k = c.top_k,
                                                 .kind = c.router,
                                                 .renormalize = c.renormalize,
                                                 .options = c.routing,
                                                 .causal = c.causal})),
      experts_(add<Experts>(
          "experts",
          ExpertsConfig{
              .width = c.width, .hidden = c.hidden, .num_experts = c.num_experts, .kind = c.expert, .bias = c.bias})) {}

SparseMoETopK::Placement SparseMoETopK::place(const Routing& r, const Tensor& valid) const {
  const CapacityConfig& c = config_.capacity;
  const int64_t experts = config_.num_experts, tokens = r.indices.size(0), k = r.indices.size(1);
  const auto only = [&](const Tensor& condition, const Tensor& indices) {
    return where(condition, indices, full({}, static_cast<double>(no_expert), DType::i64, r.indices.device()));
  };
  const Tensor indices = valid.defined() ? only(unsqueeze(valid, 1), r.indices) : r.indices;
  const double factor = training() ? c.train_factor : c.eval_factor;
  if (factor == 0) {
    const MoePlan plan =
        valid.defined() ? moe_plan_with_gaps(indices, experts, tokens * k) : moe_plan(indices, experts);
    return {plan, plan.counts, r.weights, {}};
  }
  const int64_t capacity = expert_capacity(factor, c.minimum, k, tokens, experts);
  const Tensor scores = config_.router == RouterKind::sigmoid ? sigmoid(r.logits.detach()) : r.probabilities.detach();
  const Admission admitted = admit(indices, gather(scores, 1, r.indices), experts, capacity, c.priority);
  const MoePlan plan = moe_plan_with_gaps(only(admitted.kept, indices), experts, experts * std::min(capacity, tokens));
  assert(!is_cpu(indices.device()) || conserves(admitted, indices, plan.counts, capacity));
  Placement p{plan, admitted.counts, r.weights, {}};
  const Tensor none = zeros({}, r.weights.dtype(), r.weights.device());
  if (c.overflow == Overflow::drop_renormalise && k > 1) {
    const Tensor kept = where(admitted.kept, r.weights, none);
    constexpr double tiny = 1e-30, infinity = std::numeric_limits<double>::infinity();
    p.weights = kept * (sum(r.weights, {1}, true) / clamp(sum(kept, {1}, true), tiny, infinity));
  }
  if (c.overflow == Overflow::residual) {
    const Tensor routed = ge(indices, 0);
    p.residual = sum(where(admitted.kept, none, where(routed, r.weights, none)), {1}, true);
  }
  return p;
}

MoeOutput SparseMoETopK::operator()(const Tensor& x, const Tensor& mask) const {
  check<ShapeError>(x.rank() >= 2 && x.size(-1) == config_.width, "SparseMoETopK: needs (.., ", config_.width,
                    "), got ", x);
  const Tensor tokens = reshape(x, {x.numel() / config_.width, config_.width});  // (N, D)
  const Tensor valid = valid_tokens(x, mask);                                    // (N)
  const Routing routing = router_(tokens);                                       // (N, k) of E
  const Placement p = place(routing, valid);
  const Tensor rows = experts_(moe_dispatch(tokens, p.plan), p.plan);  // (N k, D)
  Tensor y = moe_combine(rows, p.weights, p.plan);
  if (p.residual.defined()) y = y + tokens * mahia::to(p.residual, tokens.dtype());
  MoeOutput out;
  out.y = reshape(y, x.shape());
  out.losses = aux_losses(config_.losses, {.logits = routing.logits,
                                           .probabilities = routing.probabilities,
                                           .indices = routing.indices,
                                           .counts = p.counts,
                                           .sequences = sequences_of(x),
                                           .valid = valid});
  out.stats = {p.counts, routing.probabilities.detach(), router_.config().top_k};
  if ((training() ? config_.capacity.train_factor : config_.capacity.eval_factor) > 0) out.stats.kept = p.plan.counts;
  return out;
}

std::string SparseMoETopK::summary() const {
  return message("width ", config_.width, ", top ", config_.top_k, " of ", config_.num_experts);
}

}  // namespace mahia::nn
