// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "trainer.hpp"

namespace mahia::train {

// What a loss does to a router.
struct LossAtRouter {
  std::string name;                      // "task", or as in nn::aux_loss_names
  double coefficient = 1;                // in this layer
  double gradient = 0;                   // 2-norm of the weighted loss's gradient at the router's weight
  bool reaches = false;                  // whether that is more than rounding
  std::optional<double> over_task = {};  // its norm over the task's; nothing where the task does not reach
};

// How a router is taught and what it does with the tokens.
struct RouterReport {
  std::string router = {};                 // its name in the model: "layers.0.moe.router"
  int64_t num_experts = 0, top_k = 0;      // E, k
  int64_t tokens = 0;                      // that it saw, padding included
  std::vector<LossAtRouter> losses = {};   // the task's first, then the auxiliary losses that the schedules want
  std::optional<double> aux_to_task = {};  // as over_task, of all weighted auxiliary losses together
  std::string remark = {};                 // why the task does not reach, where the settings say it
  std::vector<int64_t> pairs = {};         // per expert, before any drop
  std::vector<int64_t> dead = {};          // experts without a pair
  double near_ties = 0, mean_top1 = 0;     // as in LayerRecord, means over the tokens
};

// Audits each nn::Router of the model over the batches, which must be on its device, with the coefficients of `state`.
// Gradients are those of the mean over the batches, in the mode that the model is in: training mode shows what training
// sees. The task is LossTerms::loss, with whatever the model itself adds to it.
//
// A loss reaches a router when its gradient there, divided by the coefficient and the mean over the layers, exceeds
// 1e-5 of the task's gradient at the other parameters of the layer: what cancels leaves some 1e-7, in f32. So a layer
// whose other parameters are all frozen tells nothing from rounding.
//
// Runs forward and backward of each batch once for the task and once for each wanted loss, and waits; weights, random
// numbers and mode stay as they are, gradients are dropped. Throws ValueError without batches, when the loss tells of
// another number of layers than there are routers, and for wanted losses that are not computed.
std::vector<RouterReport> router_report(const nn::Module& model, const Trainer::Loss& loss,
                                        const std::vector<Batch>& batches, const StepState& state);
// A model with loss(tokens, targets) that returns what loss_terms() takes.
template <class Model>
std::vector<RouterReport> router_report(const Model& model, const std::vector<Batch>& batches, const StepState& state) {
  return router_report(
      model, [&model](const Batch& b) { return loss_terms(model, b); }, batches, state);
}
// As a table, and as JSON.
std::string to_table(const std::vector<RouterReport>& routers);
std::string to_json(const std::vector<RouterReport>& routers);

}  // namespace mahia::train
