// SPDX-License-Identifier: Apache-2.0
#include "ops/cross_entropy.hpp"

#include <limits>

#include "backends/cuda/math.cuh"
#include "backends/cuda/rows.cuh"

namespace mahia::cuda {
namespace {

constexpr int most_threads = 512, small_block = 128;  // a block has one row, or is small and has several
constexpr int64_t no_position = std::numeric_limits<int64_t>::max();

struct Smaller {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};

// A team works on a row of V classes; what it adds up, and in which order, depends on V alone. Targets outside [0, V)
// are left out: cross_entropy_factor has noted them.
struct Rows {
  const int64_t* targets;
  int64_t count, classes, ignored;
  RowTeam team = {};
  bool packed = false, aligned = true;

  __device__ bool counts(int64_t target) const { return target != ignored && target >= 0 && target < classes; }
};

// 1 block. The first bad target is the one that is noted.
template <class S>
__global__ void __launch_bounds__(1024)
    count_targets(const Rows rows, bool averages, S* factor, Fault* fault, int site) {
  __shared__ int64_t shared[32];
  int64_t count = 0, bad = no_position;
  for (int64_t i = threadIdx.x; i < rows.count; i += blockDim.x) {
    const int64_t target = rows.targets[i];
    if (target == rows.ignored) continue;
    if (!rows.counts(target)) bad = min(bad, i);
    ++count;
  }
  count = block_reduce(count, Plus(), shared);
  bad = block_reduce(bad, Smaller(), shared);
  if (threadIdx.x != 0) return;
  *factor = static_cast<S>(averages ? 1 / static_cast<double>(count) : 1.0);
  if (bad != no_position) set_fault(fault, FaultCode::target, site, bad, rows.targets[bad], rows.classes);
}

// Of some numbers the largest, the sum of exp(x - top), and the sum of x - shift.
template <class S>
struct Totals {
  S top, powers, below;

  __device__ void raise(S least) {
    const S next = Larger()(top, least);
    if (next != top) powers *= Math::exp(top - next);  // NaN also comes here
    top = next;
  }
};

struct Join {
  template <class S>
  __device__ Totals<S> operator()(const Totals<S>& a, const Totals<S>& b) const {
    const S top = Larger()(a.top, b.top);
    const S own = top == a.top ? a.powers : a.powers * Math::exp(a.top - top);
    const S other = top == b.top ? b.powers : b.powers * Math::exp(b.top - top);
    return {top, own + other, a.below + b.below};
  }
};

// A thread's share of a row; x - shift is only added up where `shifts`.
template <int V, class S, class X>
__device__ Totals<S> read_row(const X* x, int64_t n, const Rows& rows, bool shifts, S shift) {
  constexpr int batch = V == 1 ? 8 : V == 8 ? 2 : 4;  // accesses under way at a time
  Totals<S> totals{-std::numeric_limits<S>::infinity(), S(0), S(0)};
  const int64_t step = static_cast<int64_t>(rows.team.width) * V;
  for (int64_t i = static_cast<int64_t>(rows.team.lane()) * V; i < n; i += batch * step) {
    S v[batch][V], top = totals.top;
#pragma unroll
    for (int b = 0; b < batch; ++b) {
      if (i + b * step < n) {
        load_values(x + i + b * step, rows.aligned, v[b]);
      } else {
#pragma unroll
        for (int k = 0; k < V; ++k) v[b][k] = -std::numeric_limits<S>::infinity();
      }
    }
#pragma unroll
    for (int k = 0; k < batch * V; ++k) top = Larger()(top, v[k / V][k % V]);
    totals.raise(top);
#pragma unroll
    for (int k = 0; k < batch * V; ++k) {
      if (shifts && i + k / V * step < n) totals.below += v[k / V][k % V] - shift;
    }
    if (top == -std::numeric_limits<S>::infinity()) continue;  // so far nothing to add
#pragma unroll
    for (int k = 0; k < batch * V; ++k) totals.powers += Math::exp(v[k / V][k % V] - top);
  }
  return totals;
}

// Bytes moved: one read of the logits.
template <class X, class S = compute_t<X>>
__global__ void __launch_bounds__(most_threads)
    find_losses(const X* logits, const Rows rows, S smoothing, S* losses, S* stats) {
  __shared__ Totals<S> shared[most_threads / 32];
  const int64_t row = rows.team.row(), n = row < rows.count ? rows.classes : 0;
  const X* x = logits + (n > 0 ? row * n : 0);
  S shift = S(0);
  if (n > 0 && smoothing != 0) shift = convert<S>(x[0]);  // near the others, so that little is lost
  if (!(shift - shift == 0)) shift = S(0);
  Totals<S> totals = rows.packed ? read_row<16 / sizeof(X)>(x, n, rows, smoothing != 0, shift)
                                 : read_row<1>(x, n, rows, smoothing != 0, shift);
  totals = rows.team.reduce(totals, Join(), shared);
  if (n == 0 || rows.team.lane() != 0) return;
  stats[2 * row] = totals.top;
  stats[2 * row + 1] = totals.powers;
  const int64_t target = rows.targets[row];
  S loss = S(0);
  if (rows.counts(target)) {
    const S log_total = Math::log(totals.powers);
    loss = log_total - (convert<S>(x[target]) - totals.top);
    const S even = log_total - (totals.below / static_cast<S>(n) - (totals.top - shift));
    if (smoothing != 0) loss = (1 - smoothing) * loss + smoothing * even;
  }
  losses[row] = loss;
}

// 1 block: y = factor * sum of losses, taken in f64.
template <class S>
__global__ void __launch_bounds__(1024) add_losses(const S* losses, int64_t n, const S* factor, S* y) {
  const double total = sum_of<double>(losses, n);
  if (threadIdx.x == 0) *y = static_cast<S>(total) * *factor;
}

template <class S>
struct Upstream {
  const S *stats, *factor, *dy;
  bool per_row;
  S smoothing;
};

// dx = scale (softmax(x) - (1 - smoothing) [the target] - smoothing / V). Bytes moved: one read, one write.
template <int V, class X, class S = compute_t<X>>
__global__ void __launch_bounds__(most_threads)
    find_slopes(const X* logits, const Rows rows, const Upstream<S> up, X* dlogits) {
  const int64_t row = rows.team.row(), n = rows.classes, step = static_cast<int64_t>(rows.team.width) * V;
  if (row >= rows.count) return;
  const int64_t target = rows.targets[row];
  const bool counts = rows.counts(target);
  const S top = up.stats[2 * row], inverse = S(1) / up.stats[2 * row + 1], spread = up.smoothing / static_cast<S>(n);
  const S upstream = up.dy == nullptr ? S(1) : up.dy[up.per_row ? row : 0], scale = upstream * *up.factor;
#pragma unroll 2
  for (int64_t i = static_cast<int64_t>(rows.team.lane()) * V; i < n; i += step) {
    S v[V];
    load_values(logits + row * n + i, rows.aligned, v);
#pragma unroll
    for (int k = 0; k < V; ++k) {
      S slope = Math::exp(v[k] - top) * inverse - spread;
      if (i + k == target) slope -= 1 - up.smoothing;
      v[k] = counts ? slope * scale : S(0);
    }
    store_values(dlogits + row * n + i, rows.aligned, v);
  }
}

Rows rows_of(const ConstView& targets, const CrossEntropyOptions& options, int64_t classes) {
  return {targets.data<int64_t>(), targets.numel(), classes, options.ignore_index};
}

void cross_entropy_factor(ConstView targets, const CrossEntropyOptions& options, int64_t classes, View factor) {
  static const int site = fault_site("cross_entropy");
  visit_float(factor.dtype(), [&]<class S>() {
    if constexpr (!std::is_same_v<S, bfloat16>) {
      launch(count_targets<S>, targets.device(), 1, 1024, 0, rows_of(targets, options, classes),
             options.reduction == Reduction::mean, factor.data<S>(), fault_of(targets.device()), site);
    }
  });
}

// Calls fn<X>(rows, blocks, threads); 16 bytes an access where the number of classes allows.
template <class Fn>
void for_rows(const ConstView& logits, Rows rows, const void* other, Fn&& fn) {
  const auto size = static_cast<int64_t>(size_of(logits.dtype()));
  rows.packed = rows.classes * size % 16 == 0;
  const int64_t share = rows.packed && size < 8 ? 16 : 8;  // what a thread of read_row takes at a time
  rows.team.width = power_of_two(ceil_div(rows.classes, share), most_threads);
  rows.aligned = !rows.packed || (is_aligned(logits.raw(), 16) && is_aligned(other, 16));
  visit_float(logits.dtype(), [&]<class X>() {
    fn.template operator()<X>(rows, rows.team.blocks(rows.count, small_block), rows.team.threads(small_block));
  });
}

void cross_entropy(ConstView logits, ConstView targets, const CrossEntropyOptions& options, View losses, View stats) {
  const auto run = [&]<class X>(const Rows& rows, unsigned blocks, int threads) {
    using S = compute_t<X>;
    launch(find_losses<X>, logits.device(), blocks, threads, 0, logits.data<X>(), rows,
           static_cast<S>(options.label_smoothing), losses.data<S>(), stats.data<S>());
  };
  for_rows(logits, rows_of(targets, options, logits.size(1)), nullptr, run);
}

void cross_entropy_total(ConstView losses, ConstView factor, View y) {
  visit_float(losses.dtype(), [&]<class S>() {
    if constexpr (!std::is_same_v<S, bfloat16>) {
      launch(add_losses<S>, y.device(), 1, 1024, 0, losses.data<S>(), losses.numel(), factor.data<S>(), y.data<S>());
    }
  });
}

void cross_entropy_grad(ConstView logits, ConstView targets, ConstView stats, ConstView factor, ConstView dy,
                        const CrossEntropyOptions& options, View dlogits) {
  const auto run = [&]<class X>(const Rows& rows, unsigned blocks, int threads) {
    using S = compute_t<X>;
    const Upstream<S> up{stats.data<S>(), factor.data<S>(), data_or_null<S>(dy), options.reduction == Reduction::none,
                         static_cast<S>(options.label_smoothing)};
    launch(rows.packed ? find_slopes<16 / sizeof(X), X> : find_slopes<1, X>, logits.device(), blocks, threads, 0,
           logits.data<X>(), rows, up, dlogits.data<X>());
  };
  for_rows(logits, rows_of(targets, options, logits.size(1)), dlogits.raw(), run);
}

const Registered registered_cross_entropy_factor(DeviceType::cuda, kernels::cross_entropy_factor, cross_entropy_factor);
const Registered registered_cross_entropy(DeviceType::cuda, kernels::cross_entropy, cross_entropy);
const Registered registered_cross_entropy_total(DeviceType::cuda, kernels::cross_entropy_total, cross_entropy_total);
const Registered registered_cross_entropy_grad(DeviceType::cuda, kernels::cross_entropy_grad, cross_entropy_grad);

}  // namespace
}  // namespace mahia::cuda
