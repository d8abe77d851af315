// SPDX-License-Identifier: Apache-2.0
#include "ops/conv1d.hpp"

#include <algorithm>

#include "backends/cuda/math.cuh"
#include "backends/cuda/rows.cuh"
#include "core/scratch.hpp"

// Bound by memory: 8 bytes an element forward and 16 backward (f32). A block keeps the inputs of its outputs in shared
// memory, several short rows at once; a thread makes 16 bytes of neighbouring outputs.
namespace mahia::cuda {
namespace {

constexpr int threads = 256;
constexpr int64_t shared_bytes = 40 << 10;
constexpr int tap_group = 8;           // taps whose gradients one block sums
constexpr int64_t grad_blocks = 2048;  // wanted for the gradients of the filters, fewer where there is less to sum

template <class S>
inline constexpr int pack = static_cast<int>(16 / sizeof(S));

// Rows (batch, channel) with time contiguous.
template <class S>
struct Signal {
  S* data = nullptr;
  int64_t batch_stride = 0, channel_stride = 0, time = 0;
  bool packs = false;  // 16 bytes at a time

  Signal(S* data, const ConstView& view)
      : data(data), batch_stride(view.stride(0)), channel_stride(view.stride(1)), time(view.size(2)) {
    const auto aligned = [&](int axis) { return view.size(axis) <= 1 || view.stride(axis) % pack<S> == 0; };
    packs = is_aligned(data, 16) && aligned(0) && aligned(1);
  }
  __device__ S* row(int64_t batch, int64_t channel) const {
    return data + batch * batch_stride + channel * channel_stride;
  }
};

struct Geometry {
  int64_t batch, channels, taps, left, dilation;
  bool reversed;  // taps from the filter's end
};

// How the outputs of all rows are divided: a block takes `rows` rows and of each `lanes` packs.
struct Tiling {
  int lanes = 1, rows = 1;
  int64_t tiles = 0;  // of a row
  int held = 0;       // inputs of a tile
  int64_t size = 0;   // numbers of a row in shared memory; 0: inputs are read where they lie
};

// One number in 32 stays free, so that lanes a pack apart use different banks.
constexpr int padded(int i) { return i + (i >> 5); }

template <class S>
__device__ compute_t<S> read(const S* row, int64_t time, int64_t t) {
  return t >= 0 && t < time ? convert<compute_t<S>>(row[t]) : compute_t<S>(0);
}

// Elements [t, t + pack) of a row, zero outside [0, time).
template <class S, class T = compute_t<S>>
__device__ void read_pack(const S* row, int64_t time, bool packs, int64_t t, T* values) {
  constexpr int v = pack<S>;
  if (packs && t % v == 0 && t >= 0 && t + v <= time) {
    const auto all = *reinterpret_cast<const Pack<S, v>*>(row + t);
#pragma unroll
    for (int i = 0; i < v; ++i) values[i] = convert<T>(all.values[i]);
  } else {
#pragma unroll
    for (int i = 0; i < v; ++i) values[i] = read(row, time, t + i);
  }
}

// Elements [first, first + held) of a row for all lanes of it.
template <class S, class T = compute_t<S>>
__device__ void load_window(const S* row, int64_t time, bool packs, int64_t first, int held, T* window, int lane,
                            int lanes) {
  constexpr int v = pack<S>;
  if (!packs) {
    for (int i = lane; i < held; i += lanes) window[padded(i)] = read(row, time, first + i);
    return;
  }
  const int before = static_cast<int>(first & (v - 1));  // packs begin at multiples of v
  for (int i = lane * v - before; i < held; i += lanes * v) {
    T values[v];
    read_pack(row, time, packs, first + i, values);
#pragma unroll
    for (int j = 0; j < v; ++j) {
      if (i + j >= 0 && i + j < held) window[padded(i + j)] = values[j];
    }
  }
}

extern __shared__ double conv1d_shared[];

// y[b, c, t] = bias[c] + sum_k weight[c, k] x[b, c, t + k dilation - left], k ascending.
template <class S, bool in_shared, class T = compute_t<S>>
__global__ void __launch_bounds__(threads)
    correlate(const Signal<const S> x, const T* __restrict__ weight, const T* __restrict__ bias, const Signal<S> y,
              const Geometry g, const Tiling tiling) {
  constexpr int v = pack<S>;
  const int lane = static_cast<int>(threadIdx.x) % tiling.lanes, local = static_cast<int>(threadIdx.x) / tiling.lanes;
  const unsigned tiles = static_cast<unsigned>(tiling.tiles), group = blockIdx.x / tiles;
  const int64_t row = static_cast<int64_t>(group) * tiling.rows + local;
  const int64_t start = static_cast<int64_t>(blockIdx.x - group * tiles) * tiling.lanes * v;
  const bool active = local < tiling.rows && row < g.batch * g.channels;
  const int64_t b = active ? row / g.channels : 0, c = active ? row - b * g.channels : 0;
  T* window = reinterpret_cast<T*>(conv1d_shared) + local * tiling.size;
  const S* from = x.row(b, c);
  if constexpr (in_shared) {
    if (active) load_window(from, x.time, x.packs, start - g.left, tiling.held, window, lane, tiling.lanes);
    __syncthreads();
  }
  const int64_t t = start + lane * v;
  if (!active || t >= y.time) return;
  T total[v];
  const T begin = bias == nullptr ? T(0) : bias[c];
#pragma unroll
  for (int i = 0; i < v; ++i) total[i] = begin;
  for (int64_t k = 0; k < g.taps; ++k) {
    const T w = weight[c * g.taps + (g.reversed ? g.taps - 1 - k : k)];
    const int64_t shift = k * g.dilation;
#pragma unroll
    for (int i = 0; i < v; ++i) {
      const T value = in_shared ? window[padded(lane * v + static_cast<int>(shift) + i)]
                                : read(from, x.time, t + i + shift - g.left);
      total[i] = Math::fma(w, value, total[i]);
    }
  }
  Pack<S, v> out;
#pragma unroll
  for (int i = 0; i < v; ++i) out.values[i] = convert<S>(total[i]);
  store_pack(y.row(b, c) + t, y.time - t, y.packs, out);
}

// What a block of the filters' gradients sums: units [chunk * units, ...) of one channel, a unit being one tile of
// `rows` neighbouring batches; for the taps of one group.
struct Division {
  int64_t total = 0, units = 1, chunks = 0, groups = 1;
};

// Adds the products of a thread's dy, of which the first `valid` exist, with what each tap of the group met.
template <bool in_shared, int V, class S, class T>
__device__ void add_products(const T (&dy)[V], int valid, const T* window, const S* row, int64_t time, int64_t first,
                             int lane, int64_t dilation, int taps, T (&sums)[tap_group]) {
#pragma unroll
  for (int k = 0; k < tap_group; ++k) {
    if (k < taps) {
      const int64_t shift = k * dilation;
#pragma unroll
      for (int i = 0; i < V; ++i) {
        if (i < valid) {
          const T value = in_shared ? window[padded(lane * V + static_cast<int>(shift) + i)]
                                    : read(row, time, first + lane * V + shift + i);
          sums[k] = Math::fma(dy[i], value, sums[k]);
        }
      }
    }
  }
}

// partials (chunks, channels, taps + 1): of each tap, and behind them of the bias. Reads x and dy once per tap group.
template <class S, bool in_shared, class T = compute_t<S>>
__global__ void __launch_bounds__(threads)
    sum_filter_grads(const Signal<const S> x, const Signal<const S> dy, T* partials, const Geometry g,
                     const Tiling tiling, const Division division) {
  constexpr int v = pack<S>;
  __shared__ T shared[threads / 32];
  const int lane = static_cast<int>(threadIdx.x) % tiling.lanes, local = static_cast<int>(threadIdx.x) / tiling.lanes;
  const int64_t chunk = blockIdx.x % division.chunks, rest = blockIdx.x / division.chunks;
  const int64_t c = rest % g.channels, first_tap = rest / g.channels * tap_group;
  const int taps = static_cast<int>(g.taps - first_tap < tap_group ? g.taps - first_tap : tap_group);
  const int64_t end = min(division.total, (chunk + 1) * division.units);
  T* window = reinterpret_cast<T*>(conv1d_shared) + local * tiling.size;
  T sums[tap_group] = {}, bias = 0;
  for (int64_t unit = chunk * division.units; unit < end; ++unit) {
    const int64_t rows = unit / tiling.tiles, b = rows * tiling.rows + local;
    const int64_t start = (unit - rows * tiling.tiles) * tiling.lanes * v;
    const int64_t first = start - g.left + first_tap * g.dilation, t = start + lane * v;
    const bool active = local < tiling.rows && b < g.batch;
    const S* from = x.row(active ? b : 0, c);
    T gradient[v] = {};
    if (active) read_pack(dy.row(b, c), dy.time, dy.packs, t, gradient);
    if constexpr (in_shared) {
      if (active) load_window(from, x.time, x.packs, first, tiling.held, window, lane, tiling.lanes);
      __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < v; ++i) bias += gradient[i];
    const int64_t left = active ? dy.time - t : 0;
    if (left >= v) {
      add_products<in_shared>(gradient, v, window, from, x.time, first, lane, g.dilation, taps, sums);
    } else if (left > 0) {
      add_products<in_shared>(gradient, static_cast<int>(left), window, from, x.time, first, lane, g.dilation, taps,
                              sums);
    }
    if constexpr (in_shared) __syncthreads();
  }
  T* to = partials + (chunk * g.channels + c) * (g.taps + 1);
#pragma unroll
  for (int k = 0; k < tap_group; ++k) {
    if (k >= taps) break;
    const T total = block_reduce(sums[k], Plus(), shared);
    if (threadIdx.x == 0) to[first_tap + k] = total;
  }
  if (first_tap > 0) return;
  bias = block_reduce(bias, Plus(), shared);
  if (threadIdx.x == 0) to[g.taps] = bias;
}

// dweight (channels, taps) and dbias (channels), either absent: the chunks' sums in order.
template <class T>
__global__ void __launch_bounds__(threads)
    add_chunks(const T* __restrict__ partials, int64_t chunks, int64_t channels, int64_t taps, T* dweight, T* dbias) {
  const int64_t i = thread_number(), count = channels * (taps + 1);
  if (i >= count) return;
  T total = 0;
#pragma unroll 8
  for (int64_t chunk = 0; chunk < chunks; ++chunk) total += partials[chunk * count + i];
  const int64_t c = i / (taps + 1), k = i - c * (taps + 1);
  if (k < taps && dweight != nullptr) dweight[c * taps + k] = total;
  if (k == taps && dbias != nullptr) dbias[c] = total;
}

// For rows of `outputs`, whose windows reach over `span` elements more.
template <class S>
Tiling tiling_for(int64_t outputs, int64_t span) {
  constexpr int v = pack<S>;
  Tiling tiling;
  tiling.lanes = power_of_two(ceil_div(outputs, v), threads);
  const int64_t outputs_of_tile = tiling.lanes * v;
  tiling.rows = threads / tiling.lanes;
  tiling.tiles = ceil_div(outputs, outputs_of_tile);
  const int64_t most = shared_bytes / static_cast<int64_t>(sizeof(compute_t<S>));
  if (outputs_of_tile + span > most / 33 * 32 - 1) return tiling;
  tiling.held = static_cast<int>(outputs_of_tile + span);
  tiling.size = padded(tiling.held) + 1;
  tiling.rows = std::min(tiling.rows, static_cast<int>(most / tiling.size));
  return tiling;
}

template <class S>
size_t shared_size(const Tiling& tiling) {
  return static_cast<size_t>(tiling.rows * tiling.size) * sizeof(compute_t<S>);
}

template <class S>
Signal<const S> signal(const ConstView& view) {
  return {view.data<S>(), view};
}

// y from x; `weight` and `bias` as the kernel takes them.
template <class S, class T = compute_t<S>>
void run_correlate(const ConstView& x, const T* weight, const T* bias, const View& y, const Geometry& g) {
  const Tiling tiling = tiling_for<S>(y.size(2), (g.taps - 1) * g.dilation);
  const auto kernel = tiling.size > 0 ? correlate<S, true> : correlate<S, false>;
  const unsigned blocks = blocks_for(ceil_div(g.batch * g.channels, tiling.rows) * tiling.tiles, 1);
  launch(kernel, y.device(), blocks, threads, shared_size<S>(tiling), signal<S>(x), weight, bias,
         Signal<S>(y.data<S>(), y), g, tiling);
}

void depthwise_conv1d(ConstView x, ConstView weight, ConstView bias, View y, int64_t left, int64_t dilation) {
  const Geometry g{x.size(0), x.size(1), weight.size(1), left, dilation, false};
  visit_float(x.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    run_correlate<S>(x, weight.data<T>(), data_or_null<T>(bias), y, g);
  });
}

template <class S, class T = compute_t<S>>
void run_filter_grads(const ConstView& x, const ConstView& dy, const View& dweight, const View& dbias, Device device,
                      const Geometry& g) {
  const Tiling tiling = tiling_for<S>(dy.size(2), (std::min<int64_t>(g.taps, tap_group) - 1) * g.dilation);
  Division division;
  division.groups = ceil_div(g.taps, tap_group);
  division.total = ceil_div(g.batch, tiling.rows) * tiling.tiles;
  division.units = ceil_div(division.total, ceil_div(grad_blocks, std::max<int64_t>(g.channels, 1)));
  division.chunks = division.total == 0 ? 0 : ceil_div(division.total, division.units);
  const int64_t count = g.channels * (g.taps + 1);
  const Scratch partials(device, static_cast<size_t>(division.chunks * count) * sizeof(T));
  const auto kernel = tiling.size > 0 ? sum_filter_grads<S, true> : sum_filter_grads<S, false>;
  launch(kernel, device, blocks_for(division.chunks * g.channels * division.groups, 1), threads, shared_size<S>(tiling),
         signal<S>(x), signal<S>(dy), partials.data<T>(), g, tiling, division);
  launch(add_chunks<T>, device, blocks_for(count, threads), threads, 0, partials.data<T>(), division.chunks, g.channels,
         g.taps, data_or_null<T>(dweight), data_or_null<T>(dbias));
}

void depthwise_conv1d_grad(ConstView x, ConstView weight, ConstView dy, View dx, View dweight, View dbias, int64_t left,
                           int64_t dilation) {
  const int64_t span = (weight.size(1) - 1) * dilation;
  const Geometry g{x.size(0), x.size(1), weight.size(1), left, dilation, false};
  const Geometry back{g.batch, g.channels, g.taps, span - left, dilation, true};
  visit_float(x.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    if (dx.defined()) run_correlate<S>(dy, weight.data<T>(), static_cast<const T*>(nullptr), dx, back);
    if (dweight.defined() || dbias.defined()) run_filter_grads<S>(x, dy, dweight, dbias, weight.device(), g);
  });
}

const Registered registered_depthwise_conv1d(DeviceType::cuda, kernels::depthwise_conv1d, depthwise_conv1d);
const Registered registered_depthwise_conv1d_grad(DeviceType::cuda, kernels::depthwise_conv1d_grad,
                                                  depthwise_conv1d_grad);

}  // namespace
}  // namespace mahia::cuda
