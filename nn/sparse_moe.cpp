// SPDX-License-Identifier: Apache-2.0
#include "nn/sparse_moe.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "autograd/grad_mode.hpp"
#include "ops/binary.hpp"
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

}  // namespace

SparseMoETopK::SparseMoETopK(const MoeConfig& c)
    : config_(c),
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

MoeOutput SparseMoETopK::operator()(const Tensor& x) const {
  check<ShapeError>(x.rank() >= 2 && x.size(-1) == config_.width, "SparseMoETopK: needs (.., ", config_.width,
                    "), got ", x);
  const Tensor tokens = reshape(x, {x.numel() / config_.width, config_.width});  // (N, D)
  const Routing routing = router_(tokens);                                       // (N, k) of E
  const MoePlan plan = moe_plan(routing.indices, config_.num_experts);
  const Tensor rows = experts_(moe_dispatch(tokens, plan), plan);  // (N k, D)
  MoeOutput out;
  out.y = reshape(moe_combine(rows, routing.weights, plan), x.shape());
  out.losses = aux_losses(config_.losses, {.logits = routing.logits,
                                           .probabilities = routing.probabilities,
                                           .indices = routing.indices,
                                           .counts = plan.counts,
                                           .sequences = sequences_of(x)});
  out.stats = {plan.counts, routing.probabilities.detach(), router_.config().top_k};
  return out;
}

std::string SparseMoETopK::summary() const {
  return message("width ", config_.width, ", top ", config_.top_k, " of ", config_.num_experts);
}

}  // namespace mahia::nn
