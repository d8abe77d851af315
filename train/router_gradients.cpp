// SPDX-License-Identifier: Apache-2.0
#include "train/router_gradients.hpp"

#include <cmath>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/random.hpp"
#include "ops/binary.hpp"
#include "ops/optim_step.hpp"
#include "train/weighted_aux.hpp"

namespace mahia::train {
namespace {

double norm_of(const Tensor& x) { return x.defined() ? grad_norm({x}).item<double>() : 0; }

}  // namespace

std::vector<RouterGradient> router_gradients(const nn::Module& model, const Trainer::Loss& loss, const Batch& batch,
                                             const StepState& state) {
  Tensors routers;
  for (const auto& [name, parameter] : model.named_parameters()) {
    if (name.ends_with("router.weight")) routers.push_back(parameter);
  }
  const auto drop = [&] {
    for (const Tensor& parameter : model.parameters()) parameter.set_grad({});
  };
  // The gradients of what `part` makes of the loss; the forward is repeated with the same random numbers.
  const RandomCounts counts = random_counts();
  const auto gradients = [&](const auto& part) {
    set_random_counts(counts);
    drop();
    const Tensor value = part(loss(batch));
    if (value.defined()) backward(value);
    Tensors found;
    for (const Tensor& router : routers) found.push_back(router.grad());
    drop();
    return found;
  };
  const Tensors task = gradients([](const LossTerms& terms) { return terms.loss; });
  const Tensors aux = gradients([&](const LossTerms& terms) { return weighted_aux(terms, state).sum; });
  set_random_counts(counts);
  std::vector<RouterGradient> all;
  const NoGrad no_grad;
  for (size_t i = 0; i < routers.size(); ++i) {
    const bool both = task[i].defined() && aux[i].defined();
    all.push_back({.task = norm_of(task[i]), .aux = norm_of(aux[i])});
    all.back().all = both ? norm_of(task[i] + aux[i]) : all.back().task + all.back().aux;
  }
  return all;
}

}  // namespace mahia::train
