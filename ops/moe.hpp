// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"

namespace mahia {

// Where the N k (token, choice) pairs of a mixture of experts go. Everything stays on the device.
struct MoePlan {
  Tensor order;    // i32 (R): pair t k + j at each place of the expert order; stable: by expert, then by pair. -1 at
                   // the last places when pairs have no expert; the last expert owns those too, as rows of zeros
  Tensor place;    // i32 (N k): its inverse, the place of each pair; -1 for one without an expert
  Tensor offsets;  // i32 (E + 1): expert e owns the places [offsets[e], offsets[e + 1])
  Tensor counts;   // i64 (E): pairs per expert
  int64_t tokens = 0, choices = 1;  // N, k
  bool whole = true;                // every pair has an expert
};

// Stands for an expert where a pair goes nowhere: padding, or no room.
inline constexpr int64_t no_expert = -1;

// indices i64 (N, k), the chosen experts of each token. Every pair has an expert, and R = N k.
// Throws IndexError for an expert outside [0, E), ShapeError, DTypeError, ValueError for E < 1 or N k beyond 2^31.
MoePlan moe_plan(const Tensor& indices, int64_t num_experts);
// The same where pairs may have none (no_expert), and at most `most` have one: R = min(most, N k). Throws ValueError
// when there are more.
MoePlan moe_plan_with_gaps(const Tensor& indices, int64_t num_experts, int64_t most);
// The tokens' rows in expert order: x (N, D) -> (R, D). Backward sums the k rows of a token in the order of choices.
Tensor moe_dispatch(const Tensor& x, const MoePlan& plan);
// y_t = sum_j weights[t, j] rows[place of pair (t, j)]: rows (R, D), weights f32 (N, k) -> (N, D) in rows' dtype. The
// owner of a token gathers: fixed order, no atomics. Throws ShapeError, DTypeError.
Tensor moe_combine(const Tensor& rows, const Tensor& weights, const MoePlan& plan);

namespace kernels {
// order has R elements, which bound the places.
inline constinit Kernel<void(ConstView indices, bool whole, View order, View place, View offsets, View counts)>
    moe_plan{"moe_plan"};
// y[i] = x[order[i] / k], zeros where order is -1.
inline constinit Kernel<void(ConstView x, ConstView order, int64_t k, View y)> moe_dispatch{"moe_dispatch"};
// weights absent: ones. Pairs at place -1 add nothing.
inline constinit Kernel<void(ConstView rows, ConstView weights, ConstView place, int64_t k, View y)> moe_combine{
    "moe_combine"};
// drows[place] = weights dy, dweights = dy . rows[place], 0 at place -1; either may be absent. Writes no other row.
inline constinit Kernel<void(ConstView rows, ConstView weights, ConstView place, ConstView dy, View drows,
                             View dweights)>
    moe_combine_grad{"moe_combine_grad"};
}  // namespace kernels

}  // namespace mahia
