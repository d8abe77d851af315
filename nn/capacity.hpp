// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/tensor.hpp"

namespace mahia::nn {

// Which pairs are served first where an expert has too few slots.
enum class SlotPriority : uint8_t {
  position,      // in the order of the tokens, then of their choices
  choice_major,  // all first choices, in the order of the tokens, before any second one
  probability,   // by falling p (or s) before renormalisation; ties by position
};

// What becomes of a pair that finds no slot.
enum class Overflow : uint8_t {
  drop,              // it adds nothing; the token's other pairs keep their weights
  drop_renormalise,  // the token's served pairs share its whole weight; with k = 1 the weight stays
  residual,          // the token itself stands in: y_t += (the weights of its dropped pairs) x_t
  shared,   // one more expert stands in, without a capacity: y_t += (the weights of its dropped pairs) times it
  reroute,  // it goes to its token's next best expert with room, in rounds (see moe_reroute); the token's weights are
            // then made of the experts that it really uses. What finds no room is dropped
};

struct CapacityConfig {
  double train_factor = 0, eval_factor = 0;  // slots per expert over k N / E; 0: no limit
  int64_t minimum = 0;                       // slots per expert at least, where there is a limit
  SlotPriority priority = SlotPriority::position;
  Overflow overflow = Overflow::drop;
  // Without a limit: while training, the pairs of each expert are rounded to the nearest multiple of `tile`, so that
  // grouped products have no part-filled tiles. Pairs of the lowest p are dropped, or the tokens of the highest p that
  // had not chosen the expert are added, but no more than there are; a token's weights are made of the experts that it
  // really uses. At most one tile of each expert changes, but which depends on later tokens too. 0: as chosen.
  int64_t tile = 0;
};

// max(minimum, ceil(factor k N / E)) in integers, from the shortest decimal that reads as `factor`: 0.1 is 1/10. Throws
// ValueError unless factor is 0 or in [1e-6, 1e6].
int64_t expert_capacity(double factor, int64_t minimum, int64_t k, int64_t tokens, int64_t num_experts);

struct Admission {
  Tensor kept;     // bool (N, k): the pairs that have an expert and a slot
  Tensor counts;   // i64 (E): pairs per expert before any drop
  Tensor service;  // i64 (N k): the pairs in the order in which they were served; undefined: as they stand
};
// At most `capacity` pairs per expert, on the device. indices i64 (N, k), no_expert where a pair goes nowhere;
// scores f32 (N, k), what `probability` sorts by.
Admission admit(const Tensor& indices, const Tensor& scores, int64_t num_experts, int64_t capacity,
                SlotPriority priority);

}  // namespace mahia::nn
