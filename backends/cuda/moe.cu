// SPDX-License-Identifier: Apache-2.0
#include "ops/moe.hpp"

#include <algorithm>

#include "backends/cuda/row_grid.cuh"
#include "backends/cuda/rows.cuh"
#include "core/scratch.hpp"

namespace mahia::cuda {
namespace {

constexpr int threads = 256;
constexpr int64_t items_per_thread = 4;  // where rows are worked off in a RowGrid
constexpr int plan_threads = 1024;
constexpr int plan_warps = plan_threads / 32;
constexpr int window = 4096;         // experts that a block counts at once
constexpr int64_t most_parts = 128;  // parts of the pairs, one block each

// The pairs [begin, end) of a block's part.
struct Part {
  int64_t begin, end;
  __device__ Part(int64_t pairs, int64_t size) {
    const int64_t first = blockIdx.x * size;
    begin = first < pairs ? first : pairs;
    end = pairs - begin < size ? pairs : begin + size;
  }
};

// The expert of a pair; no_expert where it goes nowhere, the last one for another number outside [0, experts).
__device__ int64_t expert_of(int64_t number, int64_t experts, bool whole) {
  if (!whole && number == no_expert) return no_expert;
  return number >= 0 && number < experts ? number : experts - 1;
}

__device__ int window_size(int64_t first, int64_t experts) {
  return experts - first < window ? static_cast<int>(experts - first) : window;
}

// histogram (parts, experts): the pairs of each expert in each part.
__global__ void __launch_bounds__(plan_threads)
    count_pairs(const int64_t* numbers, int64_t pairs, int64_t experts, bool whole, int64_t part_size, int* histogram,
                Fault* fault, int site) {
  __shared__ int counts[window];
  const Part part(pairs, part_size);
  const int thread = static_cast<int>(threadIdx.x);
  for (int64_t first = 0; first < experts; first += window) {
    const int size = window_size(first, experts);
    for (int e = thread; e < size; e += plan_threads) counts[e] = 0;
    __syncthreads();
    for (int64_t i = part.begin + thread; i < part.end; i += plan_threads) {
      const int64_t number = numbers[i], expert = expert_of(number, experts, whole);
      if (number != expert) set_fault(fault, FaultCode::expert, site, i, number, experts);
      if (expert >= first && expert < first + size) atomicAdd(counts + (expert - first), 1);
    }
    __syncthreads();
    for (int e = thread; e < size; e += plan_threads) histogram[blockIdx.x * experts + first + e] = counts[e];
  }
}

// For `size` experts (the columns of histogram): pairs in the parts before this block's, and in all parts.
__device__ void sum_parts(const int* histogram, int64_t experts, int size, int* before, int* total) {
  const int thread = static_cast<int>(threadIdx.x), parts = static_cast<int>(gridDim.x);
  for (int e = thread; e < size; e += plan_threads) before[e] = total[e] = 0;
  __syncthreads();
  const int groups = max(1, min(plan_threads / size, parts));  // each takes every groups-th part
  for (int item = thread; item < groups * size; item += plan_threads) {
    const int e = item % size;
    int sum_before = 0, sum = 0;
#pragma unroll 8
    for (int p = item / size; p < parts; p += groups) {
      const int count = histogram[p * experts + e];
      sum += count;
      sum_before += p < static_cast<int>(blockIdx.x) ? count : 0;
    }
    atomicAdd(before + e, sum_before);
    atomicAdd(total + e, sum);
  }
  __syncthreads();
}

// Adds to before[e] the place of expert e's first pair, which is `place` for the first of the experts. Block 0 writes
// places, up to `rows`, and totals. Returns the place behind the last expert.
__device__ int add_places(int size, int place, int rows, int* before, const int* total, int* offsets, int64_t* counts) {
  __shared__ int sums[plan_warps];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  for (int first = 0; first < size; first += plan_threads) {
    const int e = first + thread, count = e < size ? total[e] : 0;
    const int sum = warp_running_sum(count);
    if (lane == 31) sums[warp] = sum;
    __syncthreads();
    int offset = place + sum - count;
    for (int w = 0; w < plan_warps; ++w) {
      offset += w < warp ? sums[w] : 0;
      place += sums[w];
    }
    if (e < size) {
      before[e] += offset;
      if (blockIdx.x == 0) {
        offsets[e] = min(offset, rows);
        counts[e] = count;
      }
    }
    __syncthreads();
  }
  return place;
}

// Gives the block's pairs whose expert is one of [first, first + size) their places below `rows`, in the order of the
// pairs: the warps of 1024 pairs take turns. next[e] is the next free place of expert first + e.
__device__ void place_part(const int64_t* numbers, Part part, int64_t experts, bool whole, int64_t first, int size,
                           int rows, int* next, int* order, int* place) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  for (int64_t begin = part.begin; begin < part.end; begin += plan_threads) {
    const int64_t i = begin + thread;
    int e = -1;
    if (i < part.end) {
      const int64_t expert = expert_of(numbers[i], experts, whole);
      if (expert == no_expert) place[i] = -1;
      if (expert >= first && expert < first + size) e = static_cast<int>(expert - first);
    }
    const unsigned peers = __match_any_sync(all_lanes, e);
    const int leader = __ffs(peers) - 1;
    const int64_t left = part.end - begin;
    const int warps = left < plan_threads ? static_cast<int>((left + 31) / 32) : plan_warps;
    int at = 0;
    for (int w = 0; w < warps; ++w) {
      if (warp == w && lane == leader && e >= 0) {
        at = next[e];
        next[e] = at + __popc(peers);
      }
      __syncthreads();
    }
    at = __shfl_sync(all_lanes, at, leader) + __popc(peers & ((1u << lane) - 1));
    if (e >= 0) {
      if (at < rows) order[at] = static_cast<int>(i);
      place[i] = at < rows ? at : -1;
    }
  }
}

__global__ void __launch_bounds__(plan_threads)
    place_pairs(const int64_t* numbers, int64_t pairs, int64_t experts, bool whole, int64_t part_size,
                const int* histogram, int rows, int* order, int* place, int* offsets, int64_t* counts, Fault* fault,
                int site) {
  __shared__ int before[window], total[window];
  const Part part(pairs, part_size);
  int end = 0;
  for (int64_t first = 0; first < experts; first += window) {
    const int size = window_size(first, experts);
    sum_parts(histogram + first, experts, size, before, total);
    end = add_places(size, end, rows, before, total, offsets + first, counts + first);
    place_part(numbers, part, experts, whole, first, size, rows, before, order, place);
  }
  if (blockIdx.x != 0) return;
  for (int i = end + static_cast<int>(threadIdx.x); i < rows; i += plan_threads) order[i] = -1;
  if (threadIdx.x != 0) return;
  offsets[experts] = rows;
  if (end > rows) set_fault(fault, FaultCode::rows, site, 0, end, rows);
}

// y (pairs, units) from x (tokens, units). One read and one write of y.
template <class Unit>
__global__ void __launch_bounds__(threads)
    dispatch_rows(const Unit* x, const int* order, Unit* y, int64_t pairs, int64_t tokens, unsigned k, int64_t units) {
  const int64_t row = row_of_thread();
  if (row >= pairs) return;
  const int pair = order[row];
  const unsigned token = pair < 0 ? 0 : static_cast<unsigned>(pair) / k;
  if (token >= tokens) return;
  const Unit* from = x + token * units;
  for (int64_t c = first_item(); c < units; c += item_step()) y[row * units + c] = pair < 0 ? Unit{} : from[c];
}

// rows (pairs, width) -> y (tokens, width): one read of rows, one write of y.
template <class Y, int V>
__global__ void __launch_bounds__(threads)
    combine_rows(const Y* __restrict__ rows, const AnyVector weights, const int* __restrict__ place, Y* y,
                 int64_t tokens, int64_t k, int64_t width) {
  using S = compute_t<Y>;
  const int64_t token = row_of_thread();
  if (token >= tokens) return;
  for (int64_t c = first_item() * V; c < width; c += item_step() * V) {
    S total[V] = {};
#pragma unroll 4
    for (int64_t pair = token * k; pair < token * k + k; ++pair) {
      const int64_t at = place[pair];
      if (at < 0 || at >= tokens * k) continue;
      const S weight = weights.read(pair, S(1));
      const auto row = *reinterpret_cast<const Pack<Y, V>*>(rows + at * width + c);
      for (int v = 0; v < V; ++v) total[v] += weight * convert<S>(row.values[v]);
    }
    Pack<Y, V> sum;
    for (int v = 0; v < V; ++v) sum.values[v] = convert<Y>(total[v]);
    *reinterpret_cast<Pack<Y, V>*>(y + token * width + c) = sum;
  }
}

// One warp for a pair. Reads dy once (the pairs of a token are neighbours) and rows, writes drows.
template <class Y, int V>
__global__ void __launch_bounds__(threads)
    combine_rows_grad(const Y* __restrict__ rows, const AnyVector weights, const int* place, const Y* __restrict__ dy,
                      Y* drows, const AnyVector dweights, int64_t pairs, int64_t k, int64_t width) {
  using S = compute_t<Y>;
  const int64_t pair = static_cast<int64_t>(blockIdx.x) * (threads / 32) + threadIdx.x / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (pair >= pairs) return;
  const int64_t at = place[pair];
  if (at < 0 && lane == 0 && dweights.data != nullptr) dweights.write(pair, S(0));
  if (at < 0 || at >= pairs) return;
  const Y* from = dy + pair / k * width;
  const S weight = weights.read(pair, S(1));
  S dot = 0;
#pragma unroll 2
  for (int64_t c = lane * V; c < width; c += 32 * V) {
    const auto grad = *reinterpret_cast<const Pack<Y, V>*>(from + c);
    if (dweights.data != nullptr) {
      const auto row = *reinterpret_cast<const Pack<Y, V>*>(rows + at * width + c);
      for (int v = 0; v < V; ++v) dot += convert<S>(row.values[v]) * convert<S>(grad.values[v]);
    }
    if (drows != nullptr) {
      Pack<Y, V> out;
      for (int v = 0; v < V; ++v) out.values[v] = convert<Y>(weight * convert<S>(grad.values[v]));
      *reinterpret_cast<Pack<Y, V>*>(drows + at * width + c) = out;
    }
  }
  if (dweights.data == nullptr) return;
  dot = warp_reduce(dot, Plus());
  if (lane == 0) dweights.write(pair, dot);
}

// A stable counting sort: a histogram per part of the pairs, then each part places its own pairs.
void moe_plan(ConstView indices, bool whole, View order, View place, View offsets, View counts) {
  const int64_t pairs = indices.numel(), experts = counts.numel();
  const Device device = counts.device();
  Fault* fault = fault_of(device);
  const int site = fault_site("moe_plan");
  const int64_t fitting = std::clamp<int64_t>((int64_t{1} << 24) / experts, 1, most_parts);
  const int64_t wanted = std::clamp<int64_t>(ceil_div(pairs, plan_threads), 1, fitting);
  const int64_t size = ceil_div(ceil_div(pairs, wanted), plan_threads) * plan_threads;
  const Scratch histogram(device, static_cast<size_t>(wanted * experts) * sizeof(int));
  const auto blocks = static_cast<unsigned>(wanted);
  const auto* numbers = indices.data<int64_t>();
  launch(count_pairs, device, blocks, plan_threads, 0, numbers, pairs, experts, whole, size, histogram.data<int>(),
         fault, site);
  launch(place_pairs, device, blocks, plan_threads, 0, numbers, pairs, experts, whole, size, histogram.data<int>(),
         static_cast<int>(order.numel()), order.data<int32_t>(), place.data<int32_t>(), offsets.data<int32_t>(),
         counts.data<int64_t>(), fault, site);
}

void moe_dispatch(ConstView x, ConstView order, int64_t k, View y) {
  const size_t bytes = static_cast<size_t>(x.size(1)) * size_of(x.dtype());
  const int64_t pairs = order.numel();
  visit_unit(bytes, {x.raw(), y.raw()}, [&]<class Unit>() {
    const auto units = static_cast<int64_t>(bytes / sizeof(Unit));
    const RowGrid grid(pairs, units, items_per_thread);
    launch(dispatch_rows<Unit>, y.device(), grid.blocks, grid.threads, 0, static_cast<const Unit*>(x.raw()),
           order.data<int32_t>(), static_cast<Unit*>(y.raw()), pairs, x.size(0), static_cast<unsigned>(k), units);
  });
}

void moe_combine(ConstView rows, ConstView weights, ConstView place, int64_t k, View y) {
  const int64_t tokens = y.size(0), width = y.size(1);
  const bool aligned = is_aligned(rows.raw(), 16) && is_aligned(y.raw(), 16);
  visit_packs(y.dtype(), width, aligned, [&]<class Y, int V>() {
    const RowGrid grid(tokens, ceil_div(width, V), items_per_thread);
    launch(combine_rows<Y, V>, y.device(), grid.blocks, grid.threads, 0, rows.data<Y>(), AnyVector(weights),
           place.data<int32_t>(), y.data<Y>(), tokens, k, width);
  });
}

void moe_combine_grad(ConstView rows, ConstView weights, ConstView place, ConstView dy, View drows, View dweights) {
  const int64_t pairs = place.numel(), k = weights.size(1), width = dy.size(1);
  const bool aligned = is_aligned(rows.raw(), 16) && is_aligned(dy.raw(), 16) && is_aligned(drows.raw(), 16);
  visit_packs(dy.dtype(), width, aligned, [&]<class Y, int V>() {
    launch(combine_rows_grad<Y, V>, place.device(), blocks_for(pairs, threads / 32), threads, 0, rows.data<Y>(),
           AnyVector(weights), place.data<int32_t>(), dy.data<Y>(), data_or_null<Y>(drows), AnyVector(dweights), pairs,
           k, width);
  });
}

const Registered registered_moe_plan(DeviceType::cuda, kernels::moe_plan, moe_plan);
const Registered registered_moe_dispatch(DeviceType::cuda, kernels::moe_dispatch, moe_dispatch);
const Registered registered_moe_combine(DeviceType::cuda, kernels::moe_combine, moe_combine);
const Registered registered_moe_combine_grad(DeviceType::cuda, kernels::moe_combine_grad, moe_combine_grad);

}  // namespace
}  // namespace mahia::cuda
