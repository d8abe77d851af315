// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "node.hpp"

namespace mahia {

// Adds d loss / d leaf to the `.grad` of every leaf that loss depends on. `loss` has one element; its graph is
// consumed: a second backward through it throws ValueError. Arrivals are summed in a fixed order: same program, same
// bits.
void backward(const Tensor& loss);

// The same for several roots with given gradients (shapes as the roots).
void backward(const Tensors& roots, const Tensors& grads);

}  // namespace mahia
