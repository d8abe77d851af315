// SPDX-License-Identifier: Apache-2.0
#include "nn/router.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/copy.hpp"
#include "nn/init.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/index.hpp"
#include "ops/linear.hpp"
#include "ops/reduce.hpp"
#include "ops/softmax.hpp"
#include "ops/sort.hpp"

namespace mahia::nn {
namespace {

void warn(const std::string& text) { std::fprintf(stderr, "mahia: warning: %s\n", text.c_str()); }

RouterConfig checked(RouterConfig c, const std::string& path) {
  check<ValueError>(c.width >= 1 && c.num_experts >= 1, "Router: width ", c.width, " and num_experts ", c.num_experts,
                    " must be at least 1");
  check<ValueError>(c.top_k >= 1, "Router: top_k is ", c.top_k, ", must be at least 1");
  if (c.top_k > c.num_experts) {
    warn(message(path, ": top_k ", c.top_k, " is clamped to the ", c.num_experts, " experts there are"));
    c.top_k = c.num_experts;
  }
  const bool normalized = c.renormalize.value_or(c.top_k > 1) || c.kind == RouterKind::post_softmax;
  if (c.top_k == 1 && c.num_experts > 1 && normalized) {
    warn(message(path, ": with top_k 1 a renormalised weight is always 1, so the task gives the router no gradient"));
  }
  return c;
}

// Softmax needs a finite maximum; it is NaN when one of the logits is.
void check_logits(const Tensor& logits) {
  if (logits.numel() == 0) return;
  kernels::check_finite(amax(logits.detach(), {1}), "Router: the largest logit of token");
}

}  // namespace

Router::Router(const RouterConfig& c)
    : config_(checked(c, path())),
      weight_(parameter("weight", init::fan_in_uniform({c.num_experts, c.width}, c.width, init_call("weight")))) {}

Routing Router::operator()(const Tensor& x) const {
  check<ShapeError>(x.rank() == 2 && x.size(1) == config_.width, "Router: needs tokens (N, ", config_.width, "), got ",
                    x);
  const DType wide = x.dtype() == DType::f64 ? DType::f64 : DType::f32;
  Routing r;
  r.logits = linear(mahia::to(x, wide), mahia::to(weight_, wide));
  check_logits(r.logits);
  r.probabilities = softmax(r.logits);
  if (config_.kind == RouterKind::post_softmax) {
    const Sorted chosen = topk(r.logits, config_.top_k);
    r.indices = chosen.indices;
    r.weights = softmax(chosen.values);
    return r;
  }
  const Sorted chosen = topk(r.probabilities, config_.top_k);
  r.indices = chosen.indices;
  r.weights =
      config_.renormalize.value_or(config_.top_k > 1) ? chosen.values / sum(chosen.values, {1}, true) : chosen.values;
  return r;
}

std::string Router::summary() const {
  return message(config_.kind == RouterKind::pre_softmax ? "softmax, top " : "top-k softmax, top ", config_.top_k,
                 " of ", config_.num_experts);
}

}  // namespace mahia::nn
