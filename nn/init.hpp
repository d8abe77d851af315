// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/factory.hpp"
#include "module.hpp"

namespace mahia::nn::init {

// New f32 tensors with PyTorch's initial distributions. The call names the parameter, so that a value depends on the
// seed and on the parameter's own path alone.
Tensor uniform(const Shape& shape, double bound, const RandomCall& call);  // in [-bound, bound)
Tensor normal(const Shape& shape, double std, const RandomCall& call);     // mean 0
// kaiming_uniform with a = sqrt(5), as Linear and Conv1d: bound 1 / sqrt(fan_in).
Tensor fan_in_uniform(const Shape& shape, int64_t fan_in, const RandomCall& call);

// The initial values of language models in the style of GPT-2 (Radford et al. 2019), as Hyena's authors use them, drawn
// over a model of `layers` blocks: every linear map and embedding N(0, 0.02^2), those that write into the residual
// stream (out_proj, fc2, w_down) N(0, 0.02^2 / (2 layers)), their biases 0. Norms, short convolutions, frequencies and
// the Hyena skip weights keep their own.
void gpt2(const Module& model, int64_t layers);

}  // namespace mahia::nn::init
