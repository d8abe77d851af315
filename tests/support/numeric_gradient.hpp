// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "nn/module.hpp"

namespace mahia::tests {

// Compares the gradients that f64 leaves hold with central differences of `loss`, at about `samples` numbers of each.
void check_gradients(const nn::NamedTensors& leaves, const std::function<Tensor()>& loss, size_t samples = 20);

}  // namespace mahia::tests
