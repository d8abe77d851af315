// SPDX-License-Identifier: Apache-2.0
#include "ops/cumsum.hpp"

#include <algorithm>

#include "backends/cuda/rows.cuh"
#include "core/scratch.hpp"

namespace mahia::cuda {
namespace {

constexpr int threads = 256, column_threads = 128;
constexpr int items = 4;  // neighbours that a thread of a row adds up

// i64 adds in an unsigned type, where overflow is defined.
template <class T>
using total_t = std::conditional_t<std::is_integral_v<T>, uint64_t, compute_t<T>>;

// An axis in parts of `part` steps. Without y a kernel writes the sum of each part to `totals`; with y it writes the
// running sums, which start from the parts before.
struct Plan {
  int64_t rows, n, inner, part, parts;
  bool reversed;

  __device__ int64_t place(int64_t step) const { return reversed ? n - 1 - step : step; }
};

// The sum over the threads before this one, of the blockDim.x threads of a row; `all` is that of all of them.
template <class S>
__device__ S sum_before(S value, S& all, S* shared) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  const S sum = warp_running_sum(value);
  S before = __shfl_up_sync(all_lanes, sum, 1);
  if (lane == 0) before = S(0);
  all = __shfl_sync(all_lanes, sum, 31);
  if (warps == 1) return before;
  if (lane == 0) shared[warp] = all;
  __syncthreads();
  S start = S(0);
  all = S(0);
  for (int k = 0; k < warps; ++k) {
    if (k == warp) start = all;
    all += shared[k];
  }
  __syncthreads();
  return start + before;
}

// (rows, n). A block is one part of a row, or blockDim.y of them with a warp for each.
template <class T>
__global__ void __launch_bounds__(threads)
    scan_rows(const T* __restrict__ x, T* __restrict__ y, total_t<T>* totals, const Plan plan) {
  using S = total_t<T>;
  __shared__ S shared[threads / 32];
  const int64_t item = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (item >= plan.rows * plan.parts) return;  // a whole warp, and only where no block waits
  const int64_t row = item / plan.parts, number = item % plan.parts;
  const int64_t end = min(plan.n, (number + 1) * plan.part);
  S carry = S(0);
  for (int64_t k = 0; y != nullptr && k < number; ++k) carry += totals[row * plan.parts + k];
  for (int64_t at = number * plan.part; at < end; at += blockDim.x * items) {
    const int64_t first = at + threadIdx.x * items;
    S sums[items];
#pragma unroll
    for (int k = 0; k < items; ++k) {
      sums[k] = first + k < end ? convert<S>(x[row * plan.n + plan.place(first + k)]) : S(0);
    }
#pragma unroll
    for (int k = 1; k < items; ++k) sums[k] += sums[k - 1];
    S all;
    const S start = carry + sum_before(sums[items - 1], all, shared);
#pragma unroll
    for (int k = 0; k < items; ++k) {
      if (y != nullptr && first + k < end) y[row * plan.n + plan.place(first + k)] = convert<T>(start + sums[k]);
    }
    carry += all;
  }
  if (y == nullptr && threadIdx.x == 0) totals[item] = carry;
}

// (rows, n, inner): a thread carries one of rows * inner columns through a part.
template <class T>
__global__ void __launch_bounds__(column_threads)
    scan_columns(const T* __restrict__ x, T* __restrict__ y, total_t<T>* totals, const Plan plan) {
  using S = total_t<T>;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * column_threads + threadIdx.x;
  const int64_t columns = plan.rows * plan.inner;
  if (column >= columns) return;
  S total = S(0);
  for (int64_t k = 0; y != nullptr && k < blockIdx.y; ++k) total += totals[k * columns + column];
  const int64_t base = column / plan.inner * plan.n * plan.inner + column % plan.inner;
  const int64_t begin = blockIdx.y * plan.part, end = min(plan.n, begin + plan.part);
#pragma unroll 8
  for (int64_t step = begin; step < end; ++step) {
    const int64_t at = base + plan.place(step) * plan.inner;
    total += convert<S>(x[at]);
    if (y != nullptr) y[at] = convert<T>(total);
  }
  if (y == nullptr) totals[blockIdx.y * columns + column] = total;
}

// Memory for the sums of parts, if there is more than one.
template <class T>
size_t bytes_of_totals(const Plan& plan) {
  return plan.parts == 1 ? 0 : static_cast<size_t>(plan.parts * plan.rows * plan.inner) * sizeof(total_t<T>);
}

// Bytes moved: one read and one write; a second read where an axis is cut into parts.
template <class T>
void cumsum_rows(Device device, const T* x, T* y, Plan plan) {
  const bool narrow = plan.n <= 512;
  const dim3 block = narrow ? dim3(32, threads / 32) : dim3(threads);
  const int64_t wanted = std::max<int64_t>(1, std::min(256 / plan.rows, ceil_div(plan.n, 4 * threads * items)));
  plan.part = ceil_div(plan.n, wanted);
  plan.parts = ceil_div(plan.n, plan.part);
  const Scratch totals(device, bytes_of_totals<T>(plan));
  const auto run = [&](T* to) {
    launch(scan_rows<T>, device, blocks_for(plan.rows * plan.parts, block.y), block, 0, x, to,
           totals.data<total_t<T>>(), plan);
  };
  if (plan.parts > 1) run(nullptr);
  run(y);
}

template <class T>
void cumsum_columns(Device device, const T* x, T* y, Plan plan) {
  const int64_t columns = plan.rows * plan.inner, across = ceil_div(columns, column_threads);
  const int64_t wanted = std::max<int64_t>(1, std::min({1024 / across, ceil_div(plan.n, 64), int64_t{64}}));
  plan.part = ceil_div(plan.n, wanted);
  plan.parts = ceil_div(plan.n, plan.part);
  const dim3 grid(static_cast<unsigned>(across), static_cast<unsigned>(plan.parts));
  const Scratch totals(device, bytes_of_totals<T>(plan));
  const auto run = [&](T* to) {
    launch(scan_columns<T>, device, grid, column_threads, 0, x, to, totals.data<total_t<T>>(), plan);
  };
  if (plan.parts > 1) run(nullptr);
  run(y);
}

void cumsum(ConstView x, View y, bool reversed) {
  if (x.numel() == 0) return;
  const Plan plan{x.size(0), x.size(1), x.size(2), 0, 0, reversed};
  const auto run = [&]<class T>() {
    if (plan.inner == 1) {
      cumsum_rows(x.device(), x.data<T>(), y.data<T>(), plan);
    } else {
      cumsum_columns(x.device(), x.data<T>(), y.data<T>(), plan);
    }
  };
  if (x.dtype() == DType::i64) {
    run.template operator()<int64_t>();
  } else {
    visit_float(x.dtype(), run);
  }
}

const Registered registered_cumsum(DeviceType::cuda, kernels::cumsum, cumsum);

}  // namespace
}  // namespace mahia::cuda
