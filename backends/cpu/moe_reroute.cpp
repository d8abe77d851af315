// SPDX-License-Identifier: Apache-2.0
#include "ops/moe_reroute.hpp"

#include <algorithm>

#include "backends/common/moe_reroute.hpp"
#include "core/scratch.hpp"
#include "ops/moe.hpp"

namespace mahia::cpu {
namespace {

// Writes who serves the pairs that are kept, and to taken (E) how many those are; puts the others into `waiting`, in
// the order of service. Returns their number.
int64_t keep_own(ConstView indices, ConstView kept, ConstView service, int64_t experts, View serving, int32_t* taken,
                 int32_t* waiting) {
  const int64_t pairs = indices.numel();
  const int64_t* chosen = indices.data<int64_t>();
  const bool* keeps = kept.data<bool>();
  int64_t* server = serving.data<int64_t>();
  std::fill_n(taken, experts, 0);
  for (int64_t i = 0; i < pairs; ++i) {
    check<IndexError>(chosen[i] >= no_expert && chosen[i] < experts, "moe_reroute: expert ", chosen[i], " at position ",
                      i, " is outside [0, ", experts, ")");
    const bool has_slot = chosen[i] >= 0 && keeps[i];
    server[i] = has_slot ? chosen[i] : no_expert;
    if (has_slot) ++taken[chosen[i]];
  }
  int64_t count = 0;
  for (int64_t i = 0; i < pairs; ++i) {
    const int64_t pair = service.defined() ? service.data<int64_t>()[i] : i;
    check<IndexError>(pair >= 0 && pair < pairs, "moe_reroute: index ", pair, " at position ", i, " is outside [0, ",
                      pairs, ")");
    if (chosen[pair] >= 0 && !keeps[pair]) waiting[count++] = static_cast<int32_t>(pair);
  }
  return count;
}

// On one thread: a round over what waits costs k E reads a pair.
template <class S>
void reroute(ConstView indices, ConstView scores, int64_t capacity, View serving, View hops, int32_t* taken,
             int32_t* waiting, int32_t* asked, int64_t count) {
  const int64_t k = indices.size(1), experts = scores.size(1);
  int64_t *server = serving.data<int64_t>(), *hop = hops.data<int64_t>();
  for (int64_t round = 1; count > 0; ++round) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t token = waiting[i] / k;
      const WaitingToken<S> of{scores.data<S>() + token * experts,
                               indices.data<int64_t>() + token * k,
                               server + token * k,
                               taken,
                               experts,
                               k,
                               capacity};
      asked[i] = of.expert_for(waiting[i] % k);
    }
    int64_t left = 0;
    for (int64_t i = 0; i < count; ++i) {
      const int32_t pair = waiting[i], expert = asked[i];
      if (expert < 0) continue;
      if (taken[expert] >= capacity) {
        waiting[left++] = pair;
        continue;
      }
      ++taken[expert];
      server[pair] = expert;
      hop[pair] = round;
    }
    count = left;
  }
}

void moe_reroute(ConstView indices, ConstView kept, ConstView scores, ConstView service, int64_t capacity, View serving,
                 View hops) {
  const int64_t pairs = indices.numel(), experts = scores.size(1);
  const Scratch scratch(cpu_device, static_cast<size_t>(experts + 2 * pairs) * sizeof(int32_t));
  auto* taken = scratch.data<int32_t>();
  int32_t *waiting = taken + experts, *asked = waiting + pairs;
  const int64_t count = keep_own(indices, kept, service, experts, serving, taken, waiting);
  std::fill_n(hops.data<int64_t>(), pairs, int64_t{0});
  const auto run = scores.dtype() == DType::f64 ? reroute<double> : reroute<float>;
  run(indices, scores, capacity, serving, hops, taken, waiting, asked, count);
}

const Registered registered_moe_reroute(DeviceType::cpu, kernels::moe_reroute, moe_reroute);

}  // namespace
}  // namespace mahia::cpu
