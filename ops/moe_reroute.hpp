// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"

namespace mahia {

struct MoeRerouted {
  Tensor experts;  // i64 (N, k): who serves each pair; no_expert where nobody has room
  Tensor hops;     // i64 (N, k): the round in which a pair found its expert; 0 for its own choice and for none
};

// Sends the pairs that found no room to the next best experts, in rounds. In each round every waiting pair asks an
// expert that has room at the start of the round and that its token does not use: the token's first waiting pair the
// one with the highest score, the second the next, and so on. The requests are served in the order `service`. A pair
// that has nobody to ask is dropped. Every round but the last fills an expert, so there are less than E of them.
// indices i64 (N, k), different experts for each token, no_expert where a pair goes nowhere; kept bool (N, k): the
// pairs that have a slot, at most `capacity` for each expert; scores f32 or f64 (N, E), ties by the lowest expert,
// -infinity for an expert that is closed to the token; service i64 (N k), the pairs in the order in which they are
// served, undefined: as they stand. Throws ShapeError, DTypeError, IndexError for an expert or a pair out of range.
MoeRerouted moe_reroute(const Tensor& indices, const Tensor& kept, const Tensor& scores, int64_t capacity,
                        const Tensor& service = {});

namespace kernels {
// All contiguous; service may be absent.
inline constinit Kernel<void(ConstView indices, ConstView kept, ConstView scores, ConstView service, int64_t capacity,
                             View experts, View hops)>
    moe_reroute{"moe_reroute"};
}  // namespace kernels

}  // namespace mahia
