// SPDX-License-Identifier: Apache-2.0
#include "nn/sparse_moe.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "autograd/grad_mode.hpp"
#include "ops/cast.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"

namespace mahia::nn {

std::vector<double> MoeStats::load() const {
  std::vector<double> n = counts.to_vector<double>();
  const double total = std::max(1.0, std::accumulate(n.begin(), n.end(), 0.0));
  for (double& x : n) x /= total;
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

SparseMoETopK::SparseMoETopK(const MoeConfig& c)
    : config_(c),
      router_(add<Router>("router", RouterConfig{.width = c.width,
                                                 .num_experts = c.num_experts,
                                                 .top_k = c.top_k,
                                                 .kind = c.router,
                                                 .renormalize = c.renormalize})),
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
  out.aux = switch_loss(plan.counts, routing.probabilities);
  out.z_loss = router_z_loss(routing.logits);
  out.stats.counts = plan.counts;
  const NoGrad no_grad;
  out.stats.mean_top1 = mean(amax(routing.probabilities.detach(), {1}));
  return out;
}

std::string SparseMoETopK::summary() const {
  return message("width ", config_.width, ", top ", config_.top_k, " of ", config_.num_experts);
}

}  // namespace mahia::nn
