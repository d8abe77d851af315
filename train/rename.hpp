// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "safetensors.hpp"

namespace mahia::train {

// What names of another implementation are called here. One `*` in `from` stands for any characters, and in `to` for
// the same ones; an empty `to` leaves the tensor out.
struct RenameRule {
  std::string from, to;
};
using RenameRules = std::vector<RenameRule>;

// Hyena language models as the authors' code saves them, with or without the trainer's `model.` before all names:
// backbone.embeddings.word_embeddings, backbone.layers.N.{mixer,norm1,norm2,mlp}, backbone.ln_f, lm_head.
RenameRules hyena_reference_names();

// Each name after all rules, one after the other. Throws ValueError when two tensors come to have one name.
nn::NamedTensors renamed(const nn::NamedTensors& tensors, const RenameRules& rules);

// Loads tensors of another implementation as train::load does; errors call them `origin`. Names that no rule knows
// stay.
void load_state_dict(nn::Module& model, const nn::NamedTensors& tensors, const RenameRules& rules,
                     const std::string& origin = "renamed tensors");

}  // namespace mahia::train
