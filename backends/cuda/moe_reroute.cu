// SPDX-License-Identifier: Apache-2.0
#include "ops/moe_reroute.hpp"

#include "backends/common/moe_reroute.hpp"
#include "backends/cuda/launch.cuh"
#include "core/scratch.hpp"
#include "ops/moe.hpp"

namespace mahia::cuda {
namespace {

constexpr int threads = 1024;
constexpr int warps = threads / 32;

struct Pairs {
  const int64_t* chosen;
  const bool* kept;
  const int64_t* service;  // null: as they stand
  int64_t count, experts;

  __device__ bool has_expert(int64_t pair) const { return chosen[pair] >= 0 && chosen[pair] < experts; }
  __device__ bool waits(int64_t pair) const { return has_expert(pair) && !kept[pair]; }
};

// Appends the values of the threads that want it to a list, in the order of the threads. All threads call it; what they
// read of the list before may be overwritten.
__device__ int append(int* list, int length, bool wanted, int value) {
  __shared__ int sums[warps];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const unsigned mask = __ballot_sync(all_lanes, wanted);
  if (lane == 0) sums[warp] = __popc(mask);
  __syncthreads();
  int at = length + __popc(mask & ((1u << lane) - 1));
  for (int w = 0; w < warps; ++w) {
    at += w < warp ? sums[w] : 0;
    length += sums[w];
  }
  if (wanted) list[at] = value;
  __syncthreads();
  return length;
}

// Whether the thread's request of expert e (-1: none) finds a slot: the warps take turns, so that requests are served
// in the order of the threads. All threads call it.
__device__ bool find_slot(int e, int64_t capacity, int* taken) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const unsigned peers = __match_any_sync(all_lanes, e);
  const int leader = __ffs(peers) - 1;
  int at = 0;
  for (int w = 0; w < warps; ++w) {
    if (warp == w && lane == leader && e >= 0) {
      at = taken[e];
      taken[e] = at + __popc(peers);
    }
    __syncthreads();
  }
  at = __shfl_sync(all_lanes, at, leader) + __popc(peers & ((1u << lane) - 1));
  return e >= 0 && at < capacity;
}

// Writes who serves the pairs that are kept, and to taken (E) how many those are; puts the others into `waiting`, in
// the order of service. Returns their number.
__device__ int keep_own(const Pairs& p, int64_t* serving, int64_t* hops, int* taken, int* waiting, Fault* fault,
                        int site) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int64_t e = thread; e < p.experts; e += threads) taken[e] = 0;
  __syncthreads();
  for (int64_t i = thread; i < p.count; i += threads) {
    const int64_t expert = p.chosen[i];
    if (expert != no_expert && !p.has_expert(i)) set_fault(fault, FaultCode::expert, site, i, expert, p.experts);
    const bool has_slot = p.has_expert(i) && p.kept[i];
    serving[i] = has_slot ? expert : no_expert;
    hops[i] = 0;
    if (has_slot) atomicAdd(taken + expert, 1);
  }
  int count = 0;
  for (int64_t begin = 0; begin < p.count; begin += threads) {
    const int64_t i = begin + thread;
    int64_t pair = i < p.count ? i : -1;
    if (pair >= 0 && p.service != nullptr) pair = p.service[i];
    const bool in_range = pair >= 0 && pair < p.count;
    if (i < p.count && !in_range) set_fault(fault, FaultCode::index, site, i, pair, p.count);
    count = append(waiting, count, in_range && p.waits(pair), static_cast<int>(pair));
  }
  return count;
}

// One block, because a round needs the one before: what overflows is little, and a round costs k E reads of each pair
// that still waits.
template <class S>
__global__ void __launch_bounds__(threads)
    reroute_pairs(Pairs p, const S* scores, int64_t k, int64_t capacity, int64_t* serving, int64_t* hops, int* taken,
                  int* waiting, int* asked, Fault* fault, int site) {
  const int thread = static_cast<int>(threadIdx.x);
  int count = keep_own(p, serving, hops, taken, waiting, fault, site);
  for (int64_t round = 1; count > 0; ++round) {
    for (int i = thread; i < count; i += threads) {
      const int64_t token = waiting[i] / k, j = waiting[i] % k;
      const WaitingToken<S> of{
          scores + token * p.experts, p.chosen + token * k, serving + token * k, taken, p.experts, k, capacity};
      asked[i] = of.expert_for(j);
    }
    __syncthreads();
    int left = 0;
    for (int begin = 0; begin < count; begin += threads) {
      const int i = begin + thread, e = i < count ? asked[i] : -1, pair = i < count ? waiting[i] : 0;
      const bool found = find_slot(e, capacity, taken);
      if (found) {
        serving[pair] = e;
        hops[pair] = round;
      }
      left = append(waiting, left, e >= 0 && !found, pair);
    }
    count = left;
  }
}

template <class S>
void reroute(const Pairs& p, ConstView scores, int64_t k, int64_t capacity, View serving, View hops) {
  const Device device = serving.device();
  const Scratch scratch(device, static_cast<size_t>(p.experts + 2 * p.count) * sizeof(int));
  int *taken = scratch.data<int>(), *waiting = taken + p.experts, *asked = waiting + p.count;
  launch(reroute_pairs<S>, device, 1, threads, 0, p, scores.data<S>(), k, capacity, serving.data<int64_t>(),
         hops.data<int64_t>(), taken, waiting, asked, fault_of(device), fault_site("moe_reroute"));
}

void moe_reroute(ConstView indices, ConstView kept, ConstView scores, ConstView service, int64_t capacity, View serving,
                 View hops) {
  const Pairs p{indices.data<int64_t>(), kept.data<bool>(), service.defined() ? service.data<int64_t>() : nullptr,
                indices.numel(), scores.size(1)};
  const auto run = scores.dtype() == DType::f64 ? reroute<double> : reroute<float>;
  run(p, scores, indices.size(1), capacity, serving, hops);
}

const Registered registered_moe_reroute(DeviceType::cuda, kernels::moe_reroute, moe_reroute);

}  // namespace
}  // namespace mahia::cuda
