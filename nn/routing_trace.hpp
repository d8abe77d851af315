// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "../core/tensor.hpp"

namespace mahia::nn {

// What one call of a router chose.
struct RouterChoice {
  Tensor indices;  // i64 (N, k), before any drop
  int64_t num_experts = 0;
};
using RouterChoices = std::vector<RouterChoice>;  // in the order of the calls

// While it lives, the routers of the calling thread append what they choose to `choices`, which must live longer.
class RecordedRouting {
 public:
  explicit RecordedRouting(RouterChoices& choices);
  ~RecordedRouting();
  RecordedRouting(const RecordedRouting&) = delete;
  RecordedRouting& operator=(const RecordedRouting&) = delete;

 private:
  RouterChoices* before_;
};

// While it lives, the routers of the calling thread choose what stands in `choices`, call by call, and weight it by
// their own probabilities.
class ReplayedRouting {
 public:
  explicit ReplayedRouting(const RouterChoices& choices);  // must live longer
  ~ReplayedRouting();
  ReplayedRouting(const ReplayedRouting&) = delete;
  ReplayedRouting& operator=(const ReplayedRouting&) = delete;
  // Throws ValueError unless the routers were called as often as there are choices.
  void check_used_up() const;

 private:
  friend Tensor replayed_choice(int64_t tokens, int64_t top_k, int64_t num_experts);
  const RouterChoices& choices_;
  size_t next_ = 0;
  ReplayedRouting* before_;
};

// For routers: what to choose, i64 (N, k), undefined where nothing is replayed. Throws ShapeError for a choice of
// another shape, ValueError when there is none left or it is one of other experts.
Tensor replayed_choice(int64_t tokens, int64_t top_k, int64_t num_experts);
// For routers: whether choices are recorded or replayed.
bool routing_is_traced();
// For routers: tells what was chosen. Does nothing where nothing is recorded, nor while a forward is being repeated.
void note_choice(const Tensor& indices, int64_t num_experts);

}  // namespace mahia::nn
