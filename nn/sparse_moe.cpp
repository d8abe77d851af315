// SPDX-License-Identifier: Apache-2.0
#include "nn/sparse_moe.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "autograd/grad_mode.hpp"
#include "core/factory.hpp"
#include "nn/hyena_signal.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/compare.hpp"
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

PairTally MoeStats::tally() const { return tally_of(counts, kept, fates, overflow); }

double MoeStats::drop_rate() const {
  if (!kept.defined()) return 0;
  const PairTally t = tally();
  return t.routed > 0 ? 1 - static_cast<double>(t.kept - t.added) / static_cast<double>(t.routed) : 0;
}

double MoeStats::capacity_use() const {
  const double slots = static_cast<double>(capacity) * static_cast<double>(counts.numel());
  return slots > 0 ? static_cast<double>(tally().kept) / slots : 0;
}

namespace {

// The mean of x (N) over the tokens that are no padding; 0 when there are none.
double mean_over_tokens(const Tensor& x, const MoeStats& s) {
  const int64_t n = s.tokens();
  if (n == 0) return 0;
  const Tensor counted = s.valid.defined() ? where(s.valid, x, zeros({}, x.dtype(), x.device())) : x;
  return sum(counted).item<double>() / static_cast<double>(n);
}

}  // namespace

int64_t MoeStats::tokens() const {
  const NoGrad no_grad;
  if (!valid.defined() || valid.numel() == 0) return probabilities.size(0);
  return sum(valid).item<int64_t>();
}

double MoeStats::mean_top1() const {
  const NoGrad no_grad;
  return probabilities.numel() > 0 ? mean_over_tokens(amax(probabilities, {1}), *this) : 0;
}

double MoeStats::near_tie_share(double gap) const {
  if (probabilities.numel() == 0 || top_k >= probabilities.size(1)) return 0;
  const NoGrad no_grad;
  const Tensor top = topk(probabilities, top_k + 1).values;  // (N, k + 1)
  return mean_over_tokens(mahia::to(lt(select(top, 1, top_k - 1) - select(top, 1, top_k), gap), DType::f64), *this);
}

namespace {

// B of x (B.., T, D).
int64_t sequences_of(const Tensor& x) {
  int64_t batch = 1;
  for (int i = 0; i + 2 < x.rank(); ++i) batch *= x.size(i);
  return batch;
}

void check_router(const MoeConfig& c) {
  const CapacityConfig& capacity = c.capacity;
  const bool drops = capacity.overflow != Overflow::reroute && capacity.tile == 0;
  if (c.router == RouterKind::hash) {
    const bool asks = std::ranges::any_of(every_aux_loss, [&](AuxLoss kind) { return c.losses.contains(kind); });
    check<ValueError>(!asks, "SparseMoETopK: a hash router learns nothing, so `losses` must be empty");
    check<ValueError>(drops, "SparseMoETopK: a hash router knows no next best expert to reroute or round to");
  }
  if (c.router == RouterKind::expert_choice) {
    check<ValueError>(capacity.train_factor > 0 && capacity.eval_factor > 0,
                      "SparseMoETopK: expert_choice needs a capacity in training and evaluation, got the factors ",
                      capacity.train_factor, " and ", capacity.eval_factor);
    check<ValueError>(capacity.overflow == Overflow::drop && capacity.tile == 0,
                      "SparseMoETopK: with expert_choice nothing overflows, so there is no policy for it");
    check<ValueError>(!c.losses.contains(AuxLoss::sequence),
                      "SparseMoETopK: with expert_choice there is no loss by sequence: experts choose from the batch");
  }
}

MoeConfig checked(const MoeConfig& c) {
  for (const double factor : {c.capacity.train_factor, c.capacity.eval_factor}) {
    expert_capacity(factor, c.capacity.minimum, 1, 1, 1);  // throws for one that makes no sense
  }
  check<ValueError>(c.capacity.tile >= 0, "SparseMoETopK: the tile is ", c.capacity.tile, ", must not be negative");
  check<ValueError>(
      c.capacity.tile == 0 || (c.routing.kept_groups == c.routing.groups && !c.routing.select_bias),
      "SparseMoETopK: rounding to tiles adds tokens by their weights, and knows neither closed groups nor a "
      "selection bias");
  check<ValueError>(c.capacity.tile == 0 || c.capacity.train_factor == 0, "SparseMoETopK: rounding to tiles of ",
                    c.capacity.tile, " needs training without a capacity, got the factor ", c.capacity.train_factor);
  check<ValueError>(c.shared_experts >= 0, "SparseMoETopK: shared_experts is ", c.shared_experts,
                    ", must not be negative");
  check_router(c);
  return c;
}

ExpertsConfig experts_config(const MoeConfig& c, int64_t experts, int64_t hidden) {
  return {.width = c.width, .hidden = hidden, .num_experts = experts, .kind = c.expert, .bias = c.bias};
}

std::shared_ptr<ExpertStack> experts_of(const MoeConfig& c) {
  if (c.make_experts) return c.make_experts();
  return std::make_shared<Experts>(experts_config(c, c.num_experts, c.hidden));
}

// The mask of x (.., D) as bool (N).
Tensor valid_tokens(const Tensor& x, const Tensor& mask) {
  if (!mask.defined()) return mask;
  bool fits = mask.dtype() == DType::boolean && mask.rank() == x.rank() - 1;
  for (int i = 0; fits && i < mask.rank(); ++i) fits = mask.size(i) == x.size(i);
  check<ShapeError>(fits, "SparseMoETopK: the mask must be a bool for each token of ", x, ", got ", mask);
  return reshape(mask, {mask.numel()});
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
      experts_(add_made<ExpertStack>("experts", [&] { return experts_of(c); })) {
  if (c.capacity.overflow == Overflow::shared) overflow_ = &add<Experts>("overflow", experts_config(c, 1, c.hidden));
  if (c.shared_experts > 0) shared_ = &add<Experts>("shared", experts_config(c, 1, c.shared_experts * c.hidden));
}

Tensor SparseMoETopK::standing_in(const Tensor& tokens, const Placement& p) const {
  if (overflow_ == nullptr) return tokens * mahia::to(p.overflow, tokens.dtype());
  const int64_t n = tokens.size(0);
  const Tensor some = gt(sum(p.fates.lost, {1}, true), 0);  // (N, 1)
  const Tensor nobody = full({}, static_cast<double>(no_expert), DType::i64, tokens.device());
  const MoePlan plan = moe_plan_with_gaps(where(some, zeros_like(nobody), nobody), 1, n);
  return moe_combine((*overflow_)(tokens, plan, 1), p.overflow, plan);
}

MoeOutput SparseMoETopK::operator()(const Tensor& x, const Tensor& mask, const Tensor& ids) const {
  check<ShapeError>(x.rank() >= 2 && x.size(-1) == config_.width, "SparseMoETopK: needs (.., ", config_.width,
                    "), got ", x);
  const Tensor tokens = reshape(x, {x.numel() / config_.width, config_.width});  // (N, D)
  const Tensor valid = valid_tokens(x, mask);                                    // (N)
  check<ValueError>(!valid.defined() || !training() || config_.router != RouterKind::sinkhorn,
                    "SparseMoETopK: the sinkhorn router evens out all tokens of a batch and takes no mask in training");
  const Routing routing = router_(tokens, ids.defined() ? reshape(ids, {ids.numel()}) : ids);
  const Placement p = nn::place(router_, routing, valid, config_.capacity);
  const Tensor rows = experts_(tokens, p.plan, sequences_of(x));  // (R, D)
  check<ShapeError>(rows.rank() == 2 && rows.size(0) == p.plan.order.numel() && rows.size(1) == config_.width,
                    "SparseMoETopK: the experts must give (", p.plan.order.numel(), ", ", config_.width, "), gave ",
                    rows);
  Tensor y = moe_combine(rows, p.weights, p.plan);
  if (p.overflow.defined()) y = y + standing_in(tokens, p);
  if (shared_ != nullptr) y = y + kept(shared_->for_all(tokens), valid.defined() ? unsqueeze(valid, 1) : valid);
  MoeOutput out;
  out.y = reshape(y, x.shape());
  out.losses = aux_losses(config_.losses, {.logits = routing.logits,
                                           .probabilities = routing.probabilities,
                                           .indices = routing.indices,
                                           .counts = p.counts,
                                           .sequences = sequences_of(x),
                                           .valid = valid});
  out.stats = {.counts = p.counts,
               .probabilities = routing.probabilities.detach(),
               .top_k = router_.config().top_k,
               .kept = p.plan.counts,
               .capacity = p.capacity,
               .overflow = config_.capacity.overflow,
               .fates = p.fates,
               .valid = valid};
  return out;
}

std::string SparseMoETopK::summary() const {
  return message("width ", config_.width, ", top ", config_.top_k, " of ", config_.num_experts);
}

}  // namespace mahia::nn
