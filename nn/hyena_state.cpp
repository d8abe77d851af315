// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "autograd/grad_mode.hpp"
#include "core/factory.hpp"
#include "nn/hyena.hpp"
#include "ops/cat.hpp"
#include "ops/shape.hpp"

namespace mahia::nn {

HyenaState HyenaOperator::start(int64_t batch, int64_t longest) const {
  check<ValueError>(batch >= 1 && longest >= 1, "HyenaOperator: a state needs batch ", batch, " and longest ", longest,
                    " of at least 1");
  check<ValueError>(!config_.bidirectional, "HyenaOperator: a bidirectional operator has no state");
  const NoGrad no_grad;
  const Tensor& weight = in_proj_.weight();
  const Tensor recent = zeros({batch, weight.size(0), reach()}, weight.dtype(), weight.device());
  return {recent, convolutions(batch, longest), 0, longest};
}

// The convolutions of a block that nothing has been read of, in sequences of at most `longest` inputs.
std::vector<LongConvState> HyenaOperator::convolutions(int64_t batch, int64_t longest) const {
  const Tensor taps = filters(longest).forward;  // (D, N-1, block)
  std::vector<LongConvState> states;
  for (int64_t o = 0; o < config_.order - 1; ++o) {
    states.emplace_back(select(taps, 1, o), skip(o), batch, block_length(longest), in_proj_.weight().dtype());
  }
  return states;
}

// Inputs before the present one that the short filter sees.
int64_t HyenaOperator::reach() const { return std::max<int64_t>(config_.short_filter - 1, 0); }

Tensor HyenaOperator::advance(const Tensor& u, HyenaState& state) const {
  const bool is_new = state.position == 0;
  check<ValueError>(!training(), "HyenaOperator: advance needs the model in eval mode");
  check<ShapeError>(u.rank() == 3 && u.size(0) == state.recent.size(0) && u.size(2) == config_.width &&
                        (is_new ? u.size(1) >= 1 : u.size(1) == 1),
                    "HyenaOperator: advance needs (B, T, D) with B = ", state.recent.size(0), ", D = ", config_.width,
                    is_new ? ", T >= 1" : ", T = 1", ", got ", u);
  check<ValueError>(state.position + u.size(1) <= state.longest, "HyenaOperator: advance to ",
                    state.position + u.size(1), " inputs, the state has room for ", state.longest);
  const NoGrad no_grad;
  const int64_t block = block_length(state.longest);
  Tensors blocks;
  for (const Tensor& piece : split(u, block, 1)) {  // a single step has one piece
    const bool begins_block = state.position % block == 0;
    if (begins_block && state.position > 0) state.convolutions = convolutions(u.size(0), state.longest);
    blocks.push_back(advance_in_block(piece, begins_block, state));
    state.position += piece.size(1);
  }
  return blocks.size() == 1 ? blocks[0] : cat(blocks, 1);
}

Tensor HyenaOperator::advance_in_block(const Tensor& u, bool begins_block, HyenaState& state) const {
  const int64_t order = config_.order, time = u.size(1);
  const Tensor z = cat({state.recent, transpose(in_proj_.to_channels(u), 0, 1)}, 2);  // (B, (N+1) D, K-1 + T)
  state.recent = contiguous(narrow(z, 2, time, reach()));
  const Tensor local = short_filter_ != nullptr ? narrow((*short_filter_)(z), 2, reach(), time) : z;
  const Tensors parts = chunk(local, order + 1, 1);  // (B, D, T) each
  Tensor v = parts.back();
  for (int64_t o = 0; o < order - 1; ++o) {
    LongConvState& convolution = state.convolutions[static_cast<size_t>(o)];
    const Tensor before = transpose(gate_of(transpose(parts[static_cast<size_t>(order - 1 - o)], 0, 1)), 0, 1);
    const Tensor after = o == order - 2 ? parts[0] : Tensor();
    if (begins_block) {
      v = convolution.prefill(v, before, after);
    } else {
      v = unsqueeze(convolution.step(squeeze(v, 2), squeeze(before, 2), after ? squeeze(after, 2) : after), 2);
    }
  }
  return out_proj_.from_channels(activated(transpose(v, 0, 1), config_.activation));
}

}  // namespace mahia::nn
