// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/tensor.hpp"
#include "../ops/long_conv.hpp"

namespace mahia::nn {

// What is applied to the Hyena recurrence's result before out_proj.
enum class HyenaActivation : uint8_t { none, relu, gelu, silu, tanh, sigmoid };
Tensor activated(const Tensor& x, HyenaActivation activation);

// The steps of the recurrence over channel-first signals (C, B, T).

// x where `mask`, bool and broadcast to x, is true and exactly zero elsewhere; x itself without a mask.
Tensor kept(const Tensor& x, const Tensor& mask);

// Parameters (C, ...) of one head, for each of `heads` heads: (heads C, ...). Undefined stays undefined.
Tensor for_each_head(const Tensor& x, int64_t heads);

// The sum of each head's channels in the place of all of them.
Tensor summed_in_heads(const Tensor& x, int64_t heads);

// Blocks of `length` steps as rows of the batch, (C, B blocks, length); zeros fill the last one. And back.
Tensor in_blocks(const Tensor& x, int64_t length);
Tensor out_of_blocks(const Tensor& x, int64_t batch, int64_t time);

// long_conv of signals (C, B, T); the gates in `options` are such signals too.
Tensor long_conv_channel_first(const Tensor& x, const Tensor& h, LongConvOptions options = {});

}  // namespace mahia::nn
