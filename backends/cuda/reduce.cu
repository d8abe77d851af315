// SPDX-License-Identifier: Apache-2.0
#include "ops/reduce.hpp"

#include <algorithm>
#include <limits>

#include "backends/cuda/rows.cuh"
#include "core/scratch.hpp"

namespace mahia::cuda {
namespace {

constexpr int threads = 256, small_block = 128;
constexpr int64_t most_parts = 1024;  // a reduction with few results is cut into about so many parts, on every device
constexpr int64_t least_part = 8192;  // elements of a row

// A fold names the type one thread folds in, the type that threads join in, and the type of a part's result in memory.

// A thread adds what it reads in f32, threads and parts join in f64. Integers add in an unsigned type.
struct Sum {
  template <class X>
  using thread_t = std::conditional_t<std::is_integral_v<X>, uint64_t, compute_t<X>>;
  template <class X>
  using join_t = std::conditional_t<std::is_integral_v<X>, uint64_t, double>;
  template <class X>
  using part_t = join_t<X>;

  template <class T>
  __device__ static T start() {
    return T(0);
  }
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
  template <class Y, class T>
  __device__ static Y finish(T total, double divisor) {
    if constexpr (std::is_integral_v<T>) {
      return total;
    } else {
      return convert<Y>(total / divisor);
    }
  }
};

template <bool largest>
struct Extreme {
  template <class X>
  using thread_t = std::conditional_t<sizeof(X) == 1, int, compute_t<X>>;
  template <class X>
  using join_t = thread_t<X>;
  template <class X>
  using part_t = X;

  template <class T>
  __device__ static T start() {
    using Limits = std::numeric_limits<T>;
    if constexpr (Limits::has_infinity) return largest ? -Limits::infinity() : Limits::infinity();
    return largest ? Limits::lowest() : Limits::max();
  }
  // A NaN stays: the comparison is false for a NaN in a, the second test lets one in b through.
  template <class T>
  __device__ T operator()(T a, T b) const {
    return (largest ? b > a : b < a) || b != b ? b : a;
  }
  template <class Y, class T>
  __device__ static Y finish(T best, double) {
    return convert<Y>(best);
  }
};

template <class Fold, class T, int V, class X>
__device__ T fold_pack(const Pack<X, V>& pack) {
  T total = convert<T>(pack.values[0]);
#pragma unroll
  for (int k = 1; k < V; ++k) total = Fold()(total, convert<T>(pack.values[k]));
  return total;
}

// A thread's share of n neighbours, n a multiple of V; four accesses are under way at a time.
template <class Fold, int V, class X>
__device__ auto fold_share(const X* x, int64_t n, int lane, int width, bool aligned) {
  using T = typename Fold::template thread_t<X>;
  T total = Fold::template start<T>();
  const int64_t step = static_cast<int64_t>(width) * V;
  int64_t i = static_cast<int64_t>(lane) * V;
  for (; i + 3 * step < n; i += 4 * step) {
    Pack<X, V> packs[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) packs[k] = load_pack<V>(x + i + k * step, aligned);
#pragma unroll
    for (int k = 0; k < 4; ++k) total = Fold()(total, fold_pack<Fold, T>(packs[k]));
  }
  for (; i < n; i += step) total = Fold()(total, fold_pack<Fold, T>(load_pack<V>(x + i, aligned)));
  return total;
}

// (rows, n) in parts of `part` neighbours, `parts` of them in a row, each folded by a team.
struct RowPlan {
  int64_t rows, n, part, parts;
  RowTeam team = {};
  bool packed = false, aligned = false;
};

template <class Fold, class X, class Y>
__global__ void __launch_bounds__(threads) fold_rows(const X* x, Y* y, const RowPlan plan, double divisor) {
  using J = typename Fold::template join_t<X>;
  __shared__ J shared[threads / 32];
  const int lane = plan.team.lane(), width = plan.team.width;
  const int64_t item = plan.team.row();
  const bool used = item < plan.rows * plan.parts;
  const int64_t begin = used ? item % plan.parts * plan.part : 0;
  const int64_t n = used ? min(plan.part, plan.n - begin) : 0;
  const X* from = x + (used ? item / plan.parts * plan.n + begin : 0);
  J total = plan.packed ? fold_share<Fold, 16 / sizeof(X)>(from, n, lane, width, plan.aligned)
                        : fold_share<Fold, 1>(from, n, lane, width, true);
  total = plan.team.reduce(total, Fold(), shared);
  if (used && lane == 0) y[item] = Fold::template finish<Y>(total, divisor);
}

// (outer, n, inner): a thread walks down one of outer * inner columns through every blockDim.y-th row of a part, then
// the threads of a column join in order. y (parts, outer * inner).
template <class Fold, class X, class Y>
__global__ void __launch_bounds__(threads)
    fold_columns(const X* x, Y* y, int64_t columns, int64_t n, int64_t inner, int64_t part, double divisor) {
  using T = typename Fold::template thread_t<X>;
  using J = typename Fold::template join_t<X>;
  __shared__ J shared[threads];
  const int64_t column = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t first = blockIdx.y * part, last = min(n, first + part);
  T total = Fold::template start<T>();
  if (column < columns) {
    const X* from = x + column / inner * n * inner + column % inner;
#pragma unroll 8
    for (int64_t row = first + threadIdx.y; row < last; row += blockDim.y) {
      total = Fold()(total, convert<T>(from[row * inner]));
    }
  }
  J joined = total;
  if (blockDim.y > 1) {
    shared[threadIdx.y * blockDim.x + threadIdx.x] = joined;
    __syncthreads();
    for (int k = 1; threadIdx.y == 0 && k < blockDim.y; ++k) {
      joined = Fold()(joined, shared[k * blockDim.x + threadIdx.x]);
    }
  }
  if (threadIdx.y == 0 && column < columns) {
    y[blockIdx.y * columns + column] = Fold::template finish<Y>(joined, divisor);
  }
}

template <class T>
struct Best {
  T value;
  int64_t index;
};

// The first NaN, or the first largest.
template <class T>
__device__ bool beats(const Best<T>& b, const Best<T>& a) {
  const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
  if (a_nan != b_nan) return b_nan;
  return a_nan || b.value == a.value ? b.index < a.index : b.value > a.value;
}

struct Winner {
  template <class T>
  __device__ Best<T> operator()(const Best<T>& a, const Best<T>& b) const {
    return beats(b, a) ? b : a;
  }
};

// (outer, n, inner) -> (outer, inner), a team each.
template <class X>
__global__ void __launch_bounds__(1024)
    find_largest(const X* x, int64_t* y, int64_t results, int64_t n, int64_t inner, const RowTeam team) {
  using T = typename Extreme<true>::thread_t<X>;
  __shared__ Best<T> shared[32];
  const int lane = team.lane();
  const int64_t item = team.row();
  Best<T> best{Extreme<true>::start<T>(), std::numeric_limits<int64_t>::max()};
  if (item < results) {
    const X* from = x + item / inner * n * inner + item % inner;
#pragma unroll 4
    for (int64_t i = lane; i < n; i += team.width) {
      const Best<T> next{convert<T>(from[i * inner]), i};
      if (beats(next, best)) best = next;  // a branch: much faster here than a choice between two structs
    }
  }
  best = team.reduce(best, Winner(), shared);
  if (item < results && lane == 0) y[item] = best.index;
}

template <class Fold, class X, class Y>
void launch_rows(Device device, const X* x, Y* y, RowPlan plan, double divisor) {
  constexpr int64_t pack = 16 / sizeof(X);
  plan.packed = plan.n % pack == 0;
  plan.aligned = is_aligned(x, 16);
  plan.team.width = power_of_two(ceil_div(plan.part, 2 * pack), threads);
  launch(fold_rows<Fold, X, Y>, device, plan.team.blocks(plan.rows * plan.parts, threads), plan.team.threads(threads),
         0, x, y, plan, divisor);
}

// Bytes moved: one read of x; results of parts, where there are few rows, are at most one in 8192 elements.
template <class Fold, class X, class Y>
void reduce_rows(Device device, const X* x, Y* y, int64_t rows, int64_t n, double divisor) {
  using Part = typename Fold::template part_t<X>;
  const int64_t wanted = std::min(most_parts / rows, ceil_div(n, least_part));
  if (wanted <= 1) return launch_rows<Fold>(device, x, y, {rows, n, n, 1}, divisor);
  const int64_t part = ceil_div(ceil_div(n, wanted), 16) * 16, parts = ceil_div(n, part);
  const Scratch scratch(device, static_cast<size_t>(rows * parts) * sizeof(Part));
  Part* results = scratch.data<Part>();
  launch_rows<Fold>(device, x, results, {rows, n, part, parts}, 1);
  launch_rows<Fold, Part, Y>(device, results, y, {rows, parts, parts, 1}, divisor);
}

template <class Fold, class X, class Y>
void reduce_columns(Device device, const X* x, Y* y, int64_t outer, int64_t n, int64_t inner, double divisor) {
  using Part = typename Fold::template part_t<X>;
  const int64_t columns = outer * inner;
  const int narrowest = power_of_two(columns, 32);
  const auto block_for = [&](int64_t height) {  // a thread takes 8 rows or more
    const int lanes = power_of_two(ceil_div(height, 16), threads / narrowest);
    return dim3(static_cast<unsigned>(threads / lanes), static_cast<unsigned>(lanes));
  };
  const dim3 block = block_for(n);
  const int64_t across = ceil_div(columns, block.x), lanes = block.y;
  const int64_t wanted = std::min(2 * most_parts / across, ceil_div(n, 8 * lanes));
  const int64_t least = std::min(ceil_div(n, 1024 * lanes), most_parts);  // no thread adds much more than 1024 rows
  const int64_t part = std::max<int64_t>(1, ceil_div(n, std::max<int64_t>({1, wanted, least})));
  const int64_t parts = std::max<int64_t>(1, ceil_div(n, part));
  const dim3 grid(static_cast<unsigned>(across), static_cast<unsigned>(parts));
  if (parts == 1) {
    return launch(fold_columns<Fold, X, Y>, device, grid, block, 0, x, y, columns, n, inner, part, divisor);
  }
  const Scratch scratch(device, static_cast<size_t>(parts * columns) * sizeof(Part));
  Part* results = scratch.data<Part>();
  launch(fold_columns<Fold, X, Part>, device, grid, block, 0, x, results, columns, n, inner, part, 1);
  const dim3 last = block_for(parts);
  launch(fold_columns<Fold, Part, Y>, device, blocks_for(columns, last.x), last, 0, results, y, columns, parts, columns,
         parts, divisor);
}

template <class Fold, class X, class Y>
void reduce(const ConstView& x, const View& y, double divisor) {
  if (y.numel() == 0) return;
  const auto* from = static_cast<const X*>(x.raw());
  auto* to = static_cast<Y*>(y.raw());
  if (x.size(2) == 1) {
    reduce_rows<Fold>(x.device(), from, to, x.size(0), x.size(1), divisor);
  } else {
    reduce_columns<Fold>(x.device(), from, to, x.size(0), x.size(1), x.size(2), divisor);
  }
}

// Calls fn for the type that a number is stored in: flags are bytes, 0 or 1.
template <class Fn>
void visit_stored(DType dtype, Fn&& fn) {
  if (is_floating_point(dtype)) return visit_float(dtype, fn);
  if (size_of(dtype) == 1) return fn.template operator()<uint8_t>();
  visit_index(dtype, fn);
}

void sum(ConstView x, View y, double divisor) {
  visit_stored(x.dtype(), [&]<class X>() {
    using Stored = std::conditional_t<std::is_same_v<X, int64_t>, uint64_t, X>;
    using Y = std::conditional_t<std::is_integral_v<X>, uint64_t, X>;
    reduce<Sum, Stored, Y>(x, y, divisor);
  });
}

template <class Fold>
void extreme(ConstView x, View y) {
  visit_stored(x.dtype(), [&]<class X>() { reduce<Fold, X, X>(x, y, 1); });
}

void argmax(ConstView x, View y) {
  const int64_t n = x.size(1), inner = x.size(2), results = y.numel();
  const RowTeam team{inner == 1 ? power_of_two(ceil_div(n, 4), 1024) : 1};
  visit_stored(x.dtype(), [&]<class X>() {
    launch(find_largest<X>, x.device(), team.blocks(results, small_block), team.threads(small_block), 0,
           static_cast<const X*>(x.raw()), y.data<int64_t>(), results, n, inner, team);
  });
}

const Registered registered_sum(DeviceType::cuda, kernels::sum, sum);
const Registered registered_amax(DeviceType::cuda, kernels::amax, extreme<Extreme<true>>);
const Registered registered_amin(DeviceType::cuda, kernels::amin, extreme<Extreme<false>>);
const Registered registered_argmax(DeviceType::cuda, kernels::argmax, argmax);

}  // namespace
}  // namespace mahia::cuda
