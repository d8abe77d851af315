// SPDX-License-Identifier: Apache-2.0
// A sparse mixture of experts in plain f64 loops, one token and one pair after the other.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "nn/sparse_moe.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {

// A module's parameters and buffers on the host, by name.
struct State {
  std::map<std::string, Array> values;
  explicit State(const nn::Module& module);
  // The number of `name` for expert e, row r and, where it has three axes, column c; 0 for one that is absent.
  double at(const std::string& name, int64_t e, int64_t r = 0, int64_t c = 0) const;
};

struct MoeCase {
  nn::MoeConfig config;
  int64_t capacity = 0;  // slots per expert; 0: without a limit
  bool training = true;
  std::vector<bool> valid = {};      // by token; empty: all
  std::vector<int64_t> chosen = {};  // (N k): what a router without parameters chose
};

struct MoeReference {
  Array y;                            // as x
  std::vector<int64_t> counts, kept;  // per expert
  nn::PairTally tally;
  double switch_loss = 0, z_loss = 0, variance = 0;  // variance: of the whole as one sequence
};
MoeReference moe_reference(const State& state, const MoeCase& c, const Array& x);

// The pairs in the order in which they are served.
std::vector<size_t> service_order(const std::vector<double>& scores, int64_t k, nn::SlotPriority priority);
// Which pairs find a slot, one pair after the other; experts below 0 are none.
std::vector<bool> kept_of(const std::vector<int64_t>& experts, const std::vector<size_t>& order, int64_t num_experts,
                          int64_t capacity);

struct PlainRerouted {
  std::vector<int64_t> experts, hops;
};
// The rounds in plain words. scores (N, E); -infinity closes an expert.
PlainRerouted rerouted_of(const std::vector<int64_t>& experts, const std::vector<bool>& kept,
                          const std::vector<double>& scores, int64_t k, int64_t num_experts, int64_t capacity,
                          const std::vector<size_t>& order);

}  // namespace mahia::tests
