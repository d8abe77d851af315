// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../ops/moe.hpp"
#include "capacity.hpp"
#include "router.hpp"

namespace mahia::nn {

// What became of the pairs, on the device; undefined where it cannot happen.
struct PairFates {
  Tensor lost;   // bool (N, k): pairs that have an expert and that nobody serves
  Tensor hops;   // i64 (N, k): after how many rounds a pair was rerouted; 0 when it was not
  Tensor added;  // bool (N, E): pairs that no token chose, from rounding to tiles
};

// Their numbers.
struct PairTally {
  int64_t routed = 0;  // k times the tokens that are no padding
  int64_t added = 0;   // by rounding to tiles
  int64_t kept = 0;    // served by an expert, rerouted ones among them
  int64_t rerouted = 0, longest_hop = 0;
  int64_t dropped = 0;       // without anything in their place
  int64_t without_room = 0;  // dropped because rerouting found nobody
  int64_t shared = 0, residual = 0;
  friend bool operator==(const PairTally&, const PairTally&) = default;
  // No pair is lost without being counted.
  bool conserved() const { return routed + added == kept + dropped + without_room + shared + residual; }
};
// Waits for the device. counts and kept i64 (E): pairs per expert as chosen, and as served.
PairTally tally_of(const Tensor& counts, const Tensor& kept, const PairFates& fates, Overflow overflow);

// Which expert serves which pair, and with what weight.
struct Placement {
  MoePlan plan;
  Tensor counts;         // i64 (E): pairs per expert as chosen, before any drop
  Tensor weights;        // as the plan's pairs
  Tensor overflow;       // (N, 1): the weight of the token's lost pairs, where something stands in for them
  int64_t capacity = 0;  // of each expert; 0: without a limit
  PairFates fates = {};
};

// Gives the pairs of `routing` their places under the capacity of training or of evaluation, as the router's mode says.
// valid: bool (N), false for padding, which goes nowhere; undefined: all are valid. In debug builds the conservation of
// pairs and the capacity are asserted on the CPU.
Placement place(const Router& router, const Routing& routing, const Tensor& valid, const CapacityConfig& capacity);

}  // namespace mahia::nn
