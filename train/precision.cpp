// SPDX-License-Identifier: Apache-2.0
#include "train/precision.hpp"

#include "train/optimizer.hpp"

namespace mahia::train {

bool stays_f32(const std::string& name) {
  return matches("*router*", name) || matches("*norm*", name) || matches("*filter_fn*", name);
}

void to_bf16(nn::Module& model) { model.to(DType::bf16, stays_f32); }

}  // namespace mahia::train
