// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "../core/tensor.hpp"

namespace mahia {

// Activation checkpointing (Chen et al., "Training deep nets with sublinear memory cost", 2016): runs fn(inputs)
// without recording and keeps only the inputs; backward runs fn again, with the same random numbers, and differentiates
// that. Parameters that fn uses receive their gradients as usual.
Tensors checkpoint(std::function<Tensors(const Tensors&)> fn, const Tensors& inputs);
Tensor checkpoint(std::function<Tensor(const Tensors&)> fn, const Tensors& inputs);

// True inside the second run: modules must not change their state (running means, counters) then.
bool recomputing();

}  // namespace mahia
