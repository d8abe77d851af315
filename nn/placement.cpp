// SPDX-License-Identifier: Apache-2.0
#include "nn/placement.hpp"

#include <algorithm>
#include <cassert>
#include <limits>

#include "autograd/grad_mode.hpp"
#include "core/factory.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/compare.hpp"
#include "ops/cumsum.hpp"
#include "ops/index.hpp"
#include "ops/moe_reroute.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "ops/sort.hpp"

namespace mahia::nn {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// `experts` where the condition holds, elsewhere no_expert.
Tensor only(const Tensor& condition, const Tensor& experts) {
  return where(condition, experts, full({}, static_cast<double>(no_expert), DType::i64, experts.device()));
}

// a where the condition holds, elsewhere 0.
Tensor or_zero(const Tensor& condition, const Tensor& a) {
  return where(condition, a, zeros({}, a.dtype(), a.device()));
}

// What priorities look at: p or s of the chosen experts, before renormalisation.
Tensor chosen_scores(const Router& router, const Routing& r) {
  const bool sigmoidal = router.config().kind == RouterKind::sigmoid;
  return gather((sigmoidal ? r.values : r.probabilities).detach(), 1, r.indices);
}

// The share of the dropped pairs goes to the token's others.
Tensor shared_out(const Tensor& weights, const Tensor& kept) {
  constexpr double tiny = 1e-30;
  const Tensor served = or_zero(kept, weights);
  return served * (sum(weights, {1}, true) / clamp(sum(served, {1}, true), tiny, infinity));
}

Placement with_capacity(const Router& router, const Routing& r, const Tensor& indices, const CapacityConfig& c,
                        double factor) {
  const int64_t experts = r.probabilities.size(1), tokens = indices.size(0), k = indices.size(1);
  Placement p;
  p.capacity = expert_capacity(factor, c.minimum, k, tokens, experts);
  p.weights = r.weights;
  const Admission admitted = admit(indices, chosen_scores(router, r), experts, p.capacity, c.priority);
  p.counts = admitted.counts;
  Tensor serving = only(admitted.kept, indices);
  if (c.overflow == Overflow::reroute) {
    const MoeRerouted moved = moe_reroute(indices, admitted.kept, r.scores, p.capacity, admitted.service);
    serving = moved.experts;
    p.fates.hops = moved.hops;
    p.weights = router.weights_for(r, serving);
  }
  p.plan = moe_plan_with_gaps(serving, experts, experts * std::min(p.capacity, tokens));
  p.fates.lost = or_zero(lt(serving, 0), ne(serving, indices));
  if (c.overflow == Overflow::drop_renormalise && k > 1) p.weights = shared_out(r.weights, admitted.kept);
  if (c.overflow == Overflow::residual || c.overflow == Overflow::shared) {
    p.overflow = sum(or_zero(p.fates.lost, r.weights), {1}, true);
  }
  return p;
}

// The place of each token among all tokens by falling score for an expert, i64 (N, E).
Tensor ranks_for_experts(const Tensor& scores) { return argsort(argsort(scores, 0, true), 0); }

// e where the token (N, E) is served by expert e.
Tensor as_experts(const Tensor& served) {
  const Tensor numbers = cumsum(ones({served.size(1)}, DType::i64, served.device()), 0) - 1.0;
  return only(served, expand(unsqueeze(numbers, 0), served.shape()));
}

Placement rounded_to_tiles(const Router& router, const Routing& r, const Tensor& indices, const Tensor& valid,
                           int64_t tile) {
  const int64_t experts = r.probabilities.size(1), tokens = indices.size(0), k = indices.size(1);
  Placement p;
  Tensor served, chosen;
  {
    const NoGrad no_grad;
    p.counts = moe_plan_with_gaps(indices, experts, tokens * k).counts;
    const auto size = static_cast<double>(tile);
    const Tensor rounded = mahia::to(mahia::to(p.counts, DType::f64) / size + 0.5, DType::i64) * size;
    const Tensor there =
        valid.defined() ? sum(valid) : full({}, static_cast<double>(tokens), DType::i64, indices.device());
    const Tensor places = one_hot(maximum(indices, 0 * indices), experts);  // (N, k, E)
    chosen = gt(sum(or_zero(unsqueeze(ge(indices, 0), 2), places), {1}), 0);
    // Chosen ones in [0, 1], the others in [-2, -1], padding behind them all.
    Tensor scores = r.values.detach() - 2.0 * (1.0 - mahia::to(chosen, r.values.dtype()));
    if (valid.defined()) scores = where(unsqueeze(valid, 1), scores, full({}, -9, scores.dtype(), scores.device()));
    served = lt(ranks_for_experts(scores), minimum(rounded, there));
  }
  const Tensor all = as_experts(served);
  const int64_t most = std::min(tokens * experts, tokens * k + experts * (tile / 2));
  p.plan = moe_plan_with_gaps(all, experts, most);
  p.weights = router.weights_for(r, all);
  p.fates.added = or_zero(served, eq(chosen, zeros_like(chosen)));
  const Tensor kept = gather(served, 1, maximum(indices, 0 * indices));  // (N, k)
  p.fates.lost = or_zero(ge(indices, 0), eq(kept, zeros_like(kept)));
  return p;
}

Placement chosen_by_experts(const Router& router, const Routing& r, const Tensor& valid, const CapacityConfig& c,
                            double factor) {
  const int64_t tokens = r.scores.size(0), experts = r.scores.size(1);
  Placement p;
  p.capacity = std::min(tokens, expert_capacity(factor, c.minimum, router.config().top_k, tokens, experts));
  Tensor served;
  if (valid.defined()) {
    const Tensor there = unsqueeze(valid, 1);
    const Tensor scores = where(there, r.scores, full({}, -1, r.scores.dtype(), r.scores.device()));  // padding last
    served = or_zero(there, lt(ranks_for_experts(scores), static_cast<double>(p.capacity)));
  } else {
    served = lt(ranks_for_experts(r.scores), static_cast<double>(p.capacity));
  }
  const Tensor all = as_experts(served);
  p.plan = moe_plan_with_gaps(all, experts, experts * p.capacity);
  p.counts = p.plan.counts;
  p.weights = router.weights_for(r, all);
  return p;
}

// Every pair is somewhere, and no expert serves more than its capacity.
[[maybe_unused]] bool conserves(const Placement& p, Overflow overflow) {
  const std::vector<int64_t> kept = p.plan.counts.to_vector<int64_t>();
  const bool fits = std::ranges::all_of(kept, [&](int64_t n) { return p.capacity == 0 || n <= p.capacity; });
  return fits && tally_of(p.counts, p.plan.counts, p.fates, overflow).conserved();
}

}  // namespace

PairTally tally_of(const Tensor& counts, const Tensor& kept, const PairFates& fates, Overflow overflow) {
  const NoGrad no_grad;
  const auto number = [](const Tensor& x) { return x.defined() && x.numel() > 0 ? sum(x).item<int64_t>() : 0; };
  PairTally t;
  t.routed = number(counts);
  t.kept = number(kept);
  t.added = number(fates.added);
  if (fates.hops.defined() && fates.hops.numel() > 0) {
    t.rerouted = number(gt(fates.hops, 0));
    t.longest_hop = amax(fates.hops).item<int64_t>();
  }
  const int64_t lost = number(fates.lost);
  (overflow == Overflow::reroute    ? t.without_room
   : overflow == Overflow::shared   ? t.shared
   : overflow == Overflow::residual ? t.residual
                                    : t.dropped) = lost;
  return t;
}

Placement place(const Router& router, const Routing& r, const Tensor& valid, const CapacityConfig& c) {
  const double factor = router.training() ? c.train_factor : c.eval_factor;
  if (router.config().kind == RouterKind::expert_choice) return chosen_by_experts(router, r, valid, c, factor);
  const int64_t experts = r.probabilities.size(1), pairs = r.indices.numel();
  const Tensor indices = valid.defined() ? only(unsqueeze(valid, 1), r.indices) : r.indices;
  Placement p;
  if (router.training() && c.tile > 0) {
    p = rounded_to_tiles(router, r, indices, valid, c.tile);
  } else if (factor > 0) {
    p = with_capacity(router, r, indices, c, factor);
  } else {
    p.plan = valid.defined() ? moe_plan_with_gaps(indices, experts, pairs) : moe_plan(indices, experts);
    p.counts = p.plan.counts;
    p.weights = r.weights;
  }
  assert(p.counts.device().type != DeviceType::cpu || conserves(p, c.overflow));
  return p;
}

}  // namespace mahia::nn
