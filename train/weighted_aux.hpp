// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "trainer.hpp"

namespace mahia::train {

// The auxiliary losses that the schedules of a step want.
struct WeightedAux {
  Tensor sum;                                                  // []: of `weighted`; undefined when there is none
  std::array<Tensor, nn::aux_loss_names.size()> weighted;      // []: times its coefficient, the mean over the layers
  std::array<Tensor, nn::aux_loss_names.size()> values;        // [] or (L): unweighted; undefined: not wanted
  std::array<Tensor, nn::aux_loss_names.size()> coefficients;  // [] or (L)
};
// Throws ValueError for a loss that is wanted and not computed, ShapeError for schedules of another number of layers.
WeightedAux weighted_aux(const LossTerms& terms, const StepState& state);

}  // namespace mahia::train
