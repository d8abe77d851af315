// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/factory.hpp"

namespace mahia::nn::init {

// New f32 tensors with PyTorch's initial distributions. The call names the parameter, so that a value depends on the
// seed and on the parameter's own path alone.
Tensor uniform(const Shape& shape, double bound, const RandomCall& call);  // in [-bound, bound)
Tensor normal(const Shape& shape, double std, const RandomCall& call);     // mean 0
// kaiming_uniform with a = sqrt(5), as Linear and Conv1d: bound 1 / sqrt(fan_in).
Tensor fan_in_uniform(const Shape& shape, int64_t fan_in, const RandomCall& call);

}  // namespace mahia::nn::init
