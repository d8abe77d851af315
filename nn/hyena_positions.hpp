// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "module.hpp"

namespace mahia::nn {

struct HyenaFilterConfig;

// The grid of positions that implicit filters are functions of: t_i = i / (l_max - 1) and w_i = 2 pi i / l_max, with
// features z_i = [t_i, cos(f w_i), -sin(f w_i)]. It belongs to l_max, not to the length of an input; up to `extend_to`
// it goes on with the same spacing, so that its first l_max positions stay what they are.
class PositionalEmbedding : public Module {
 public:
  explicit PositionalEmbedding(const HyenaFilterConfig& c);
  Tensor z(int64_t time) const;  // (1, time, embedding)
  Tensor t(int64_t time) const;  // (1, time, 1)

 private:
  Tensor z_, t_;                // of the grid, as a checkpoint holds them
  Tensor z_beyond_, t_beyond_;  // behind it, up to extend_to; absent without
};

}  // namespace mahia::nn
