// SPDX-License-Identifier: Apache-2.0
#include "ops/fft.hpp"

#include <algorithm>

#include "backends/cuda/cufft.hpp"
#include "backends/cuda/pack.cuh"
#include "backends/cuda/row_grid.cuh"
#include "core/scratch.hpp"

// cuFFT's transforms of real numbers, in place on copies of the rows in f32 or f64. The copies add two passes over
// memory, which convert, cut, fill and weight; a thread moves a pair of reals, or one complex number, at a time.
namespace mahia::cuda {
namespace {

constexpr size_t scratch_limit = size_t{256} << 20;

template <class T>
using Pair = Pack<T, 2>;

template <class T>
struct Weights {
  int64_t n;
  T edge, inner;
  __device__ bool is_edge(int64_t k) const { return k == 0 || 2 * k == n; }
  __device__ Pair<T> times(int64_t k, T re, T im) const {
    return is_edge(k) ? Pair<T>{edge * re, T(0)} : Pair<T>{inner * re, inner * im};
  }
};

// Rows of a contiguous operand; `in_pairs`: each pair may be moved as one.
template <class S>
struct Rows {
  using T = compute_t<std::remove_const_t<S>>;
  S* data;
  int64_t length;
  bool in_pairs;

  // Elements i and i + 1 of a row, zero where i + 1 or both are `end` or more.
  __device__ Pair<T> load(int64_t row, int64_t i, int64_t end) const {
    const S* from = data + row * length + i;
    if (i + 1 < end && in_pairs) {
      const auto pair = *reinterpret_cast<const Pair<std::remove_const_t<S>>*>(from);
      return {convert<T>(pair.values[0]), convert<T>(pair.values[1])};
    }
    return {i < end ? convert<T>(from[0]) : T(0), i + 1 < end ? convert<T>(from[1]) : T(0)};
  }

  __device__ void store(int64_t row, int64_t i, Pair<T> value) const {
    S* to = data + row * length + i;
    if (i + 1 < length && in_pairs) {
      *reinterpret_cast<Pair<S>*>(to) = {convert<S>(value.values[0]), convert<S>(value.values[1])};
      return;
    }
    to[0] = convert<S>(value.values[0]);
    if (i + 1 < length) to[1] = convert<S>(value.values[1]);
  }
};

template <class T>
__device__ inline Pair<T>& pair_at(T* rows, int64_t pitch, int64_t row, int64_t i) {
  return reinterpret_cast<Pair<T>*>(rows + row * pitch)[i];
}

// rows[t] = x[t] for t < end, else 0.
template <class S, class T>
__global__ void __launch_bounds__(row_grid_threads)
    load_signals(const Rows<const S> x, int64_t end, T* rows, int64_t pitch, int64_t count, int64_t pairs) {
  const int64_t row = row_of_thread();
  if (row >= count) return;
  for (int64_t i = first_item(); i < pairs; i += item_step()) pair_at(rows, pitch, row, i) = x.load(row, 2 * i, end);
}

// y[k] = w[k] rows[k] for k <= n/2, else 0.
template <class S, class T>
__global__ void __launch_bounds__(row_grid_threads)
    store_spectra(T* rows, int64_t pitch, int64_t count, int64_t frequencies, const Weights<T> weights,
                  const Rows<S> y) {
  const int64_t row = row_of_thread();
  if (row >= count) return;
  for (int64_t k = first_item(); k < frequencies; k += item_step()) {
    Pair<T> value{T(0), T(0)};
    if (k <= weights.n / 2) {
      value = pair_at(rows, pitch, row, k);
      value = weights.times(k, value.values[0], value.values[1]);
    }
    y.store(row, 2 * k, value);
  }
}

// rows[k] = w[k] x[k] for k <= n/2, 0 where x ends before.
template <class S, class T>
__global__ void __launch_bounds__(row_grid_threads)
    load_spectra(const Rows<const S> x, const Weights<T> weights, T* rows, int64_t pitch, int64_t count) {
  const int64_t row = row_of_thread();
  if (row >= count) return;
  for (int64_t k = first_item(); k <= weights.n / 2; k += item_step()) {
    Pair<T> value{T(0), T(0)};
    if (2 * k < x.length) {
      value = x.load(row, 2 * k, x.length);
      value = weights.times(k, value.values[0], value.values[1]);
    }
    pair_at(rows, pitch, row, k) = value;
  }
}

// y[t] = rows[t] for t < n, else 0.
template <class S, class T>
__global__ void __launch_bounds__(row_grid_threads)
    store_signals(T* rows, int64_t pitch, int64_t count, int64_t n, int64_t pairs, const Rows<S> y) {
  const int64_t row = row_of_thread();
  if (row >= count) return;
  for (int64_t i = first_item(); i < pairs; i += item_step()) {
    Pair<T> value{T(0), T(0)};
    if (2 * i < n) value = pair_at(rows, pitch, row, i);
    if (2 * i + 1 >= n) value.values[1] = T(0);
    y.store(row, 2 * i, value);
  }
}

constexpr int64_t items_per_thread = 4;

template <class S>
Rows<S> rows_at(S* data, int64_t first, int64_t length) {
  S* from = data + first * length;
  return {from, length, length % 2 == 0 && is_aligned(from, 2 * sizeof(S))};
}

// Calls body(rows of this chunk, first row, their scratch) for chunks that together are all rows.
template <class T, class Body>
void for_chunks(const FftRows& rows, FftDirection direction, Body body) {
  if (rows.count == 0) return;
  const int64_t most = fitting_count(rows, direction, scratch_limit);
  const Scratch scratch(rows.device, rows.with_count(most).bytes());
  for (int64_t first = 0; first < rows.count; first += most) {
    body(rows.with_count(std::min(most, rows.count - first)), first, scratch.data<T>());
  }
}

void rfft(ConstView x, View y, int64_t n, FftWeights weights) {
  visit_float(y.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const Device device = y.device();
    const Weights<T> weight{n, static_cast<T>(weights.edge), static_cast<T>(weights.inner)};
    const int64_t time = x.size(1), frequencies = y.size(1), pairs = n / 2 + 1;
    const auto chunk = [&](const FftRows& rows, int64_t first, T* data) {
      const RowGrid in(rows.count, pairs, items_per_thread);
      const RowGrid out(rows.count, frequencies, items_per_thread);
      launch(load_signals<S, T>, device, in.blocks, in.threads, 0, rows_at(x.data<S>(), first, time), std::min(time, n),
             data, rows.pitch(), rows.count, pairs);
      transform(rows, FftDirection::forward, data);
      launch(store_spectra<S, T>, device, out.blocks, out.threads, 0, data, rows.pitch(), rows.count, frequencies,
             weight, rows_at(y.data<S>(), first, 2 * frequencies));
    };
    for_chunks<T>({device, dtype_of<T>, n, y.size(0)}, FftDirection::forward, chunk);
  });
}

// The inverse adds each inner frequency and its mirror image: half the weight.
void irfft(ConstView x, View y, int64_t n, FftWeights weights) {
  visit_float(y.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const Device device = y.device();
    const Weights<T> weight{n, static_cast<T>(weights.edge), static_cast<T>(weights.inner / 2)};
    const int64_t frequencies = x.size(1), time = y.size(1), pairs = ceil_div(time, 2);
    const auto chunk = [&](const FftRows& rows, int64_t first, T* data) {
      const RowGrid in(rows.count, n / 2 + 1, items_per_thread);
      const RowGrid out(rows.count, pairs, items_per_thread);
      launch(load_spectra<S, T>, device, in.blocks, in.threads, 0, rows_at(x.data<S>(), first, 2 * frequencies), weight,
             data, rows.pitch(), rows.count);
      transform(rows, FftDirection::inverse, data);
      launch(store_signals<S, T>, device, out.blocks, out.threads, 0, data, rows.pitch(), rows.count, n, pairs,
             rows_at(y.data<S>(), first, time));
    };
    for_chunks<T>({device, dtype_of<T>, n, y.size(0)}, FftDirection::inverse, chunk);
  });
}

const Registered registered_rfft(DeviceType::cuda, kernels::rfft, rfft);
const Registered registered_irfft(DeviceType::cuda, kernels::irfft, irfft);

}  // namespace
}  // namespace mahia::cuda
