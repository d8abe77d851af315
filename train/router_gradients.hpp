// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "trainer.hpp"

namespace mahia::train {

// What pulls at a router's weight, as 2-norms of gradients.
struct RouterGradient {
  double all = 0;            // of everything
  double task = 0, aux = 0;  // of the loss, and of the weighted auxiliary losses, alone
};
// Of each parameter `..router.weight`, in the model's order, for one batch on the model's device. Runs forward and
// backward twice and waits; weights and random numbers stay as they are, gradients are dropped.
std::vector<RouterGradient> router_gradients(const nn::Module& model, const Trainer::Loss& loss, const Batch& batch,
                                             const StepState& state);

}  // namespace mahia::train
