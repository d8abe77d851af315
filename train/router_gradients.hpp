// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "trainer.hpp"

namespace mahia::train {

// The gradients of a part of what `loss` makes of a batch, the mean over the batches, at each of model.parameters();
// undefined where it has none. `part` gives [], or undefined for nothing. Runs forward and backward of each batch,
// which must be on the model's device, in the mode that the model is in; weights and random numbers stay as they are,
// so that two parts see the same forward. Gradients that the parameters had are dropped.
Tensors gradients_of(const nn::Module& model, const Trainer::Loss& loss, const std::vector<Batch>& batches,
                     const std::function<Tensor(const LossTerms&)>& part);

// What pulls at a router's weight, as 2-norms of gradients.
struct RouterGradient {
  double all = 0;            // of everything
  double task = 0, aux = 0;  // of the loss, and of the weighted auxiliary losses, alone
};
// Of each parameter `..router.weight`, in the model's order, for one batch. As gradients_of() of two parts; waits.
std::vector<RouterGradient> router_gradients(const nn::Module& model, const Trainer::Loss& loss, const Batch& batch,
                                             const StepState& state);

// The 2-norm of a gradient; 0 for an undefined one. Waits.
double norm_of(const Tensor& gradient);

}  // namespace mahia::train
