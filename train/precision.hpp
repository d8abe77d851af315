// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "../nn/module.hpp"

namespace mahia::train {

// Whether a parameter of this name stays f32 when a model is trained in bf16: routers, norms, implicit filters.
bool stays_f32(const std::string& name);

// Makes a model's other floating parameters and buffers bf16. An optimizer built afterwards keeps f32 masters of them.
void to_bf16(nn::Module& model);

}  // namespace mahia::train
