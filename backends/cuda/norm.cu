// SPDX-License-Identifier: Apache-2.0
#include "ops/norm.hpp"

#include <algorithm>

#include "backends/cuda/elementwise.cuh"
#include "backends/cuda/math.cuh"
#include "backends/cuda/rows.cuh"
#include "core/scratch.hpp"

namespace mahia::cuda {
namespace {

constexpr int most_threads = 512, small_block = 256;  // a block has one row, or is small and has one for each warp
constexpr int held = 16;                              // columns whose gradients a thread adds up in registers

// A team of whole warps works on a row: each thread on every width-th pack of V neighbours, n a multiple of V. What
// they add up, and in which order, depends on n alone. They read a row once from memory, then from the L1 cache.
struct RowPlan : RowTeam {
  int64_t rows, n;
  bool aligned;
};

// Bytes moved: one read of x and one write of y.
template <class X, int V, class S = compute_t<X>>
__global__ void __launch_bounds__(most_threads) normalize_rows(const X* x, const AnyVector weight, const AnyVector bias,
                                                               S eps, X* y, S* mean, S* rstd, const RowPlan plan) {
  __shared__ S shared[most_threads / 32];
  const int64_t row = plan.row(), n = row < plan.rows ? plan.n : 0, at = row * n, begin = plan.lane() * V;
  S v[V], centre = S(0), spread = S(0);
  const auto each = [&](const auto& body) {
    for (int64_t i = begin; i < n; i += plan.width * V) {
      load_values(x + at + i, plan.aligned, v);
#pragma unroll
      for (int k = 0; k < V; ++k) body(v[k]);
    }
  };
  if (mean != nullptr) {
    each([&](S value) { centre += value; });
    centre = plan.reduce(centre, Plus(), shared) / static_cast<S>(plan.n);
  }
  each([&](S value) { spread += (value - centre) * (value - centre); });
  const S factor = S(1) / Math::sqrt(plan.reduce(spread, Plus(), shared) / static_cast<S>(plan.n) + eps);
  for (int64_t i = begin; i < n; i += plan.width * V) {
    S scale[V], shift[V];
    load_values(x + at + i, plan.aligned, v);
    weight.read(i, plan.aligned, scale, S(1));
    bias.read(i, plan.aligned, shift, S(0));
#pragma unroll
    for (int k = 0; k < V; ++k) v[k] = (v[k] - centre) * factor * scale[k] + shift[k];
    store_values(y + at + i, plan.aligned, v);
  }
  if (begin != 0 || n == 0) return;
  if (mean != nullptr) mean[row] = centre;
  rstd[row] = factor;
}

// One row: with z = (x - mean) rstd and g = weight dy, dx = rstd (g - mean(g) - z mean(g z)).
template <class X, int V, class S = compute_t<X>>
struct RowGrad {
  const X *x, *dy;
  X* dx;
  AnyVector weight;
  int64_t at;  // where the row begins
  S centre, factor;
  bool aligned;

  // Calls body(k, z, dy, weight) for elements i + k.
  template <class Body>
  __device__ void each(int64_t i, const Body& body) const {
    S v[V], g[V], scale[V];
    load_values(x + at + i, aligned, v);
    load_values(dy + at + i, aligned, g);
    weight.read(i, aligned, scale, S(1));
#pragma unroll
    for (int k = 0; k < V; ++k) body(k, (v[k] - centre) * factor, g[k], scale[k]);
  }
  // Writes dx and adds dy z and dy.
  __device__ void finish(int64_t i, S average, S along, S (&total)[2][V]) const {
    S out[V];
    each(i, [&](int k, S z, S g, S scale) {
      total[0][k] += g * z;
      total[1][k] += g;
      out[k] = factor * (rounded_product(g, scale) - average - z * along);
    });
    if (dx != nullptr) store_values(dx + at + i, aligned, out);
  }
};

// A block takes every gridDim.x-th row, or group of rows; parts (slots, 2, n) receives its sums of dy z and dy, those
// of each warp if it has several rows. Bytes moved: one read of x and dy, one write of dx.
template <class X, int V, class S = compute_t<X>>
__global__ void __launch_bounds__(most_threads)
    norm_slopes(const X* x, const X* dy, const AnyVector weight, const S* mean, const S* rstd, X* dx, S* parts,
                const RowPlan plan) {
  __shared__ S shared[most_threads / 32];
  constexpr int packs = held / V;
  const int64_t groups = blockDim.x / plan.width, begin = plan.lane() * V, step = plan.width * V;
  S* part = parts + (blockIdx.x * groups + threadIdx.x / plan.width) * 2 * plan.n;
  S sums[packs][2][V] = {};
  for (int64_t first = blockIdx.x * groups; first < plan.rows; first += gridDim.x * groups) {
    const int64_t mine = first + threadIdx.x / plan.width, row = mine < plan.rows ? mine : 0;
    const int64_t n = mine < plan.rows ? plan.n : 0;
    const S centre = mean != nullptr ? mean[row] : S(0);
    const RowGrad<X, V> grad{x, dy, dx, weight, row * plan.n, centre, rstd[row], plan.aligned};
    S average = S(0), along = S(0);
    if (dx != nullptr) {
      for (int64_t i = begin; i < n; i += step) {
        grad.each(i, [&](int, S z, S g, S scale) { average += g * scale, along += g * scale * z; });
      }
      average = mean != nullptr ? plan.reduce(average, Plus(), shared) / static_cast<S>(plan.n) : S(0);
      along = plan.reduce(along, Plus(), shared) / static_cast<S>(plan.n);
    }
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      if (begin + p * step < n) grad.finish(begin + p * step, average, along, sums[p]);
    }
    for (int64_t i = begin + packs * step; i < n; i += step) {  // sums of columns that are not held stay in memory
      S total[2][V];
      const bool begins = first < gridDim.x * groups;
#pragma unroll
      for (int k = 0; k < 2 * V; ++k) total[k / V][k % V] = begins ? S(0) : part[k / V * n + i + k % V];
      grad.finish(i, average, along, total);
#pragma unroll
      for (int k = 0; k < 2 * V; ++k) part[k / V * n + i + k % V] = total[k / V][k % V];
    }
  }
#pragma unroll
  for (int k = 0; k < packs * 2 * V; ++k) {
    const int64_t i = begin + k / (2 * V) * step;
    if (parts != nullptr && i < plan.n) part[k / V % 2 * plan.n + i + k % V] = sums[k / (2 * V)][k / V % 2][k % V];
  }
}

// dweight and dbias (n) from parts (count, 2, n): 32 threads a column, joined in order.
template <class S>
__global__ void __launch_bounds__(1024)
    sum_parts(const S* parts, int64_t count, int64_t n, const AnyVector dweight, const AnyVector dbias) {
  __shared__ S shared[32][32];
  const int64_t i = static_cast<int64_t>(blockIdx.x) * 32 + threadIdx.x;
  S sum = S(0);
#pragma unroll 4
  for (int64_t k = threadIdx.y; k < count && i < 2 * n; k += 32) sum += parts[k * 2 * n + i];
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || i >= 2 * n) return;
  for (int k = 1; k < 32; ++k) sum += shared[k][threadIdx.x];
  (i < n ? dweight : dbias).write(i < n ? i : i - n, sum);
}

// x (size, channels, time) and what else the kernels over channels read.
template <class X>
struct Batch {
  const X *x, *dy;
  const compute_t<X>*mean, *var;
  double eps;
  int64_t size, channels, time;

  __device__ int64_t channel() const { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
  __device__ double rstd(int64_t c) const { return 1 / Math::sqrt(static_cast<double>(var[c]) + eps); }

  // Calls body(place) for this thread's elements of channel c: of every gridDim.y-th stretch of blockDim.y.
  template <class Body>
  __device__ void walk(int64_t c, const Body& body) const {
    const int64_t stride = static_cast<int64_t>(gridDim.y) * blockDim.y, rows = stride / time, steps = stride % time;
    int64_t i = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y, row = i / time, t = i % time;
#pragma unroll 4
    for (; row < size && c < channels; row += rows, t += steps) {
      if (t >= time) ++row, t -= time;
      if (row < size) body((row * channels + c) * time + t);
    }
  }
};

// Sums in f64, a block for all of a channel: of dy and dy z, which are dbias and dweight and go to totals (2,
// channels); or, without dy, of d = x - (a number near the mean) and d^2 for mean and variance.
template <class X, class S = compute_t<X>>
__global__ void __launch_bounds__(512)
    channel_sums(const Batch<X> in, S* mean, S* var, double* totals, const AnyVector dweight, const AnyVector dbias) {
  __shared__ double sums[2][512];
  const int64_t c = in.channel();
  double centre = 0, factor = 1, a = 0, b = 0;
  if (c < in.channels) {
    const double first = convert<double>(in.x[c * in.time]);
    centre = in.dy != nullptr ? in.mean[c] : first - first == 0 ? first : 0;
    factor = in.dy != nullptr ? in.rstd(c) : 1;
  }
  in.walk(c, [&](int64_t at) {
    const double d = (convert<double>(in.x[at]) - centre) * factor;
    const double g = in.dy != nullptr ? convert<double>(in.dy[at]) : d;
    a += g;
    b += g * d;
  });
  const unsigned own = threadIdx.y * blockDim.x + threadIdx.x;
  sums[0][own] = a, sums[1][own] = b;
  for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
    __syncthreads();
    for (int k = 0; threadIdx.y < half && k < 2; ++k) sums[k][own] += sums[k][own + half * blockDim.x];
  }
  if (threadIdx.y != 0 || c >= in.channels) return;
  a = sums[0][own], b = sums[1][own];
  if (in.dy != nullptr) {
    totals[c] = a;
    totals[in.channels + c] = b;
    dbias.write(c, a);
    dweight.write(c, b);
  } else {
    const double n = static_cast<double>(in.size * in.time), spread = b / n - a / n * (a / n);
    mean[c] = static_cast<S>(centre + a / n);
    var[c] = static_cast<S>(spread < 0 ? 0 : spread);
  }
}

// y = (x - mean) rstd weight + bias; or with dy rstd weight (dy - mean(dy) - z mean(dy z)), the means 0 without totals.
template <class X, class S = compute_t<X>>
__global__ void __launch_bounds__(512) map_channels(const Batch<X> in, const AnyVector weight, const AnyVector bias,
                                                    const double* totals, X* __restrict__ y) {
  const int64_t c = in.channel();
  if (c >= in.channels) return;
  const double n = static_cast<double>(in.size * in.time), rstd = in.rstd(c);
  const S centre = in.mean[c], slope = static_cast<S>(rstd * weight.read(c, 1.0));
  const S offset = static_cast<S>(bias.read(c, 0.0));
  const S average = static_cast<S>(totals != nullptr ? totals[c] / n : 0);
  const S along = static_cast<S>(totals != nullptr ? totals[in.channels + c] / n * rstd : 0);
  const X* __restrict__ x = in.x, * __restrict__ dy = in.dy;
  in.walk(c, [&](int64_t at) {
    const S off = convert<S>(x[at]) - centre;
    y[at] = convert<X>(dy == nullptr ? off * slope + offset : slope * (convert<S>(dy[at]) - average - off * along));
  });
}

template <class S>
struct Move {
  double momentum, scale;
  const Fault* fault;
  __device__ S operator()(S running, S batch) const {
    const double next = (1 - momentum) * convert<double>(running) + momentum * scale * convert<double>(batch);
    return fault->code == FaultCode::none ? convert<S>(next) : running;
  }
};

// Calls fn<X, V>(plan, threads of a block) for the rows of x, 16 bytes a pack where n allows.
template <class... Views, class Fn>
void for_rows(const ConstView& x, Fn&& fn, const Views&... others) {
  const int64_t n = x.size(-1);
  const RowTeam team{std::max(32, power_of_two(ceil_div(n, held), most_threads))};
  visit_packs(x.dtype(), n, true, [&]<class X, int V>() {
    const bool fit = (is_aligned(x.raw(), 16) && ... && is_aligned(others.raw(), size_of(others.dtype()) * V));
    fn.template operator()<X, V>(RowPlan{team, x.numel() / n, n, fit || V == 1}, team.threads(small_block));
  });
}

void layer_norm(ConstView x, ConstView weight, ConstView bias, double eps, View y, View mean, View rstd) {
  const auto run = [&]<class X, int V>(const RowPlan& plan, int threads) {
    using S = compute_t<X>;
    launch(normalize_rows<X, V>, x.device(), plan.blocks(plan.rows, small_block), threads, 0, x.data<X>(),
           AnyVector(weight), AnyVector(bias), static_cast<S>(eps), y.data<X>(), data_or_null<S>(mean), rstd.data<S>(),
           plan);
  };
  for_rows(x, run, weight, bias, y);
}

void layer_norm_grad(ConstView x, ConstView dy, ConstView weight, ConstView mean, ConstView rstd, View dx, View dweight,
                     View dbias) {
  const auto run = [&]<class X, int V>(const RowPlan& plan, int threads) {
    using S = compute_t<X>;
    const int64_t groups = threads / plan.width, most = std::max(256, 65536 / threads);
    const int64_t blocks = std::min(most, ceil_div(plan.rows, 4 * groups)), slots = blocks * groups;
    const bool sums = dweight.defined() || dbias.defined() || plan.n > held * plan.width;
    const Scratch scratch(x.device(), sums ? static_cast<size_t>(slots * 2 * plan.n) * sizeof(S) : 0);
    S* parts = sums ? scratch.data<S>() : nullptr;
    launch(norm_slopes<X, V>, x.device(), static_cast<unsigned>(blocks), threads, 0, x.data<X>(), dy.data<X>(),
           AnyVector(weight), data_or_null<S>(mean), rstd.data<S>(), data_or_null<X>(dx), parts, plan);
    if (!sums) return;
    launch(sum_parts<S>, x.device(), blocks_for(2 * plan.n, 32), dim3(32, 32), 0, parts, slots, plan.n,
           AnyVector(dweight), AnyVector(dbias));
  };
  for_rows(x, run, dy, weight, dx);
}

template <class X, class S = compute_t<X>>
Batch<X> batch_of(const ConstView& x, const ConstView& dy, const ConstView& mean, const ConstView& var, double eps) {
  const S *centre = data_or_null<S>(mean), *spread = data_or_null<S>(var);
  return {x.data<X>(), data_or_null<X>(dy), centre, spread, eps, x.size(0), x.size(1), x.size(2)};
}

// Blocks take neighbouring times of a channel, or neighbouring channels where times are few; several a channel if
// shared.
template <class X, class Kernel, class... Args>
void over_channels(Kernel kernel, Device device, const Batch<X>& in, bool shared, Args... args) {
  const dim3 block = in.time >= 64 ? dim3(1, 512) : dim3(32, 16);
  dim3 grid(blocks_for(in.channels, block.x));
  if (shared) grid.y = std::min(blocks_for(in.size * in.time, 4 * block.y), blocks_for(4096, grid.x));
  launch(kernel, device, grid, block, 0, in, args...);
}

void batch_norm_stats(ConstView x, View mean, View var) {
  visit_float(x.dtype(), [&]<class X>() {
    over_channels(channel_sums<X>, x.device(), batch_of<X>(x, {}, {}, {}, 0), false, mean.data<compute_t<X>>(),
                  var.data<compute_t<X>>(), nullptr, AnyVector({}), AnyVector({}));
  });
}

void batch_norm(ConstView x, ConstView weight, ConstView bias, ConstView mean, ConstView var, double eps, View y) {
  visit_float(x.dtype(), [&]<class X>() {
    over_channels(map_channels<X>, x.device(), batch_of<X>(x, {}, mean, var, eps), true, AnyVector(weight),
                  AnyVector(bias), nullptr, y.data<X>());
  });
}

void batch_norm_grad(ConstView x, ConstView dy, ConstView weight, ConstView mean, ConstView var, double eps,
                     bool training, View dx, View dweight, View dbias) {
  const Scratch scratch(x.device(), static_cast<size_t>(2 * x.size(1)) * sizeof(double));
  double* totals = scratch.data<double>();
  visit_float(x.dtype(), [&]<class X>() {
    const Batch<X> in = batch_of<X>(x, dy, mean, var, eps);
    over_channels(channel_sums<X>, x.device(), in, false, nullptr, nullptr, totals, AnyVector(dweight),
                  AnyVector(dbias));
    if (!dx.defined()) return;
    over_channels(map_channels<X>, x.device(), in, true, AnyVector(weight), AnyVector({}), training ? totals : nullptr,
                  dx.data<X>());
  });
}

void move_average(ConstView running, ConstView batch, double momentum, double scale, View moved) {
  visit_float(running.dtype(), [&]<class S>() {
    map<S, S, S>(Move<S>{momentum, scale, fault_of(moved.device())}, moved, running, batch);
  });
}

const Registered registered_layer_norm(DeviceType::cuda, kernels::layer_norm, layer_norm);
const Registered registered_layer_norm_grad(DeviceType::cuda, kernels::layer_norm_grad, layer_norm_grad);
const Registered registered_batch_norm_stats(DeviceType::cuda, kernels::batch_norm_stats, batch_norm_stats);
const Registered registered_batch_norm(DeviceType::cuda, kernels::batch_norm, batch_norm);
const Registered registered_batch_norm_grad(DeviceType::cuda, kernels::batch_norm_grad, batch_norm_grad);
const Registered registered_move_average(DeviceType::cuda, kernels::move_average, move_average);

}  // namespace
}  // namespace mahia::cuda
