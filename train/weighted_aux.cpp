// SPDX-License-Identifier: Apache-2.0
#include "train/weighted_aux.hpp"

#include "ops/binary.hpp"
#include "ops/cat.hpp"
#include "ops/reduce.hpp"

namespace mahia::train {
namespace {

// The values of a loss in each layer, (L); undefined where the model does not compute it.
Tensor per_layer(const std::vector<nn::AuxLosses>& layers, nn::AuxLoss kind) {
  Tensors values;
  for (const nn::AuxLosses& layer : layers) {
    if (layer[kind].defined()) values.push_back(layer[kind]);
  }
  return values.empty() || values.size() < layers.size() ? Tensor() : stack(values);
}

}  // namespace

WeightedAux weighted_aux(const LossTerms& terms, const StepState& state) {
  WeightedAux aux;
  for (size_t i = 0; i < aux.values.size(); ++i) {
    const auto kind = static_cast<nn::AuxLoss>(i);
    if (!state.wants(kind)) continue;
    const Tensor coefficient = state.coefficient(kind);
    const bool is_mean = kind == nn::AuxLoss::balance && terms.aux.defined() && coefficient.rank() == 0;
    const Tensor value = is_mean ? terms.aux : per_layer(terms.losses, kind);
    // A loss without layers has none to balance, and the Switch loss is wanted by default.
    if (!value.defined() && kind == nn::AuxLoss::balance && terms.losses.empty() && !state.observes()) continue;
    check<ValueError>(value.defined(), "the schedules weight the auxiliary loss `", nn::aux_loss_names[i],
                      "`, which the model does not compute in each layer");
    check<ShapeError>(coefficient.rank() == 0 || coefficient.shape() == value.shape(), "the schedule of `",
                      nn::aux_loss_names[i], "` has a coefficient for each of ", coefficient.numel(),
                      " layers, the model has ", value.numel());
    const Tensor weighted = is_mean ? coefficient * value : mean(coefficient * value);
    aux.sum = aux.sum.defined() ? aux.sum + weighted : weighted;
    aux.weighted[i] = weighted;
    aux.values[i] = value;
    aux.coefficients[i] = coefficient;
  }
  return aux;
}

}  // namespace mahia::train
