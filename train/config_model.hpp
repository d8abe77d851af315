// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../nn/models/hyena_moe_lm.hpp"
#include "fields.hpp"

namespace mahia::train {

// A model as a configuration says it: what is a word there, beside the numbers and switches in `model`.
struct ModelSettings {
  nn::models::HyenaMoeLMConfig model = {};
  std::string activation = "none", convolution = "automatic";
  std::string expert = "gelu", router = "pre_softmax", renormalize = "default";
  std::string priority = "position", overflow = "drop";
};
// The fields of the sections [model], [model.routing] and [model.capacity].
void add_model(Fields& fields, ModelSettings& settings);
// Turns the words into what they mean and checks the values together; model.l_max must be set. Throws ValueError naming
// the settings.
void finish_model(ModelSettings& settings);

}  // namespace mahia::train
