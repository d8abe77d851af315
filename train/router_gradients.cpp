// SPDX-License-Identifier: Apache-2.0
#include "train/router_gradients.hpp"

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/random.hpp"
#include "ops/binary.hpp"
#include "ops/optim_step.hpp"
#include "train/weighted_aux.hpp"

namespace mahia::train {

double norm_of(const Tensor& gradient) { return gradient.defined() ? grad_norm({gradient}).item<double>() : 0; }

Tensors gradients_of(const nn::Module& model, const Trainer::Loss& loss, const std::vector<Batch>& batches,
                     const std::function<Tensor(const LossTerms&)>& part) {
  const Tensors parameters = model.parameters();
  const auto drop = [&] {
    for (const Tensor& parameter : parameters) parameter.set_grad({});
  };
  const RandomCounts counts = random_counts();
  drop();
  for (const Batch& batch : batches) {
    const Tensor value = part(loss(batch));
    if (!value.defined() || !value.requires_grad()) continue;
    backward(batches.size() == 1 ? value : value * (1 / static_cast<double>(batches.size())));
  }
  set_random_counts(counts);
  Tensors found;
  for (const Tensor& parameter : parameters) found.push_back(parameter.grad());
  drop();
  return found;
}

std::vector<RouterGradient> router_gradients(const nn::Module& model, const Trainer::Loss& loss, const Batch& batch,
                                             const StepState& state) {
  const Tensors task = gradients_of(model, loss, {batch}, [](const LossTerms& terms) { return terms.loss; });
  const Tensors aux =
      gradients_of(model, loss, {batch}, [&](const LossTerms& terms) { return weighted_aux(terms, state).sum; });
  const nn::NamedTensors parameters = model.named_parameters();
  std::vector<RouterGradient> all;
  const NoGrad no_grad;
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (!parameters[i].first.ends_with("router.weight")) continue;
    const bool both = task[i].defined() && aux[i].defined();
    all.push_back({.task = norm_of(task[i]), .aux = norm_of(aux[i])});
    all.back().all = both ? norm_of(task[i] + aux[i]) : all.back().task + all.back().aux;
  }
  return all;
}

}  // namespace mahia::train
