// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cuda/convert.cuh"
#include "backends/cuda/row_grid.cuh"
#include "core/view.hpp"

namespace mahia::cuda {

// Signals (B, D, T) with time contiguous, or absent ones, beside contiguous rows of `length` numbers in the type they
// are computed in; row b D + d belongs to batch b and channel d.
struct SignalRows {
  Device device;
  int64_t batch, channels, length;

  SignalRows(const ConstView& u, int64_t length)
      : device(u.device()), batch(u.size(0)), channels(u.size(1)), length(length) {}
  int64_t count() const { return batch * channels; }
  size_t numbers() const { return static_cast<size_t>(count() * length); }
};

template <class S>
struct StoredSignal {
  S* data = nullptr;
  int64_t batch_stride = 0, channel_stride = 0, time = 0;

  __device__ explicit operator bool() const { return data != nullptr; }
  __device__ S* row(int64_t r, int64_t channels) const {
    return data + r / channels * batch_stride + r % channels * channel_stride;
  }
};

template <class S>
StoredSignal<const S> stored(const ConstView& x) {
  return x.defined() ? StoredSignal<const S>{x.data<S>(), x.stride(0), x.stride(1), x.size(2)}
                     : StoredSignal<const S>();
}
template <class S>
StoredSignal<S> stored(const View& x) {
  return x.defined() ? StoredSignal<S>{x.data<S>(), x.stride(0), x.stride(1), x.size(2)} : StoredSignal<S>();
}

// rows = x * gate, zero behind x's end. other = x * factor. Gate, or other with its factor, may be absent.
template <class S>
__global__ void __launch_bounds__(row_grid_threads)
    read_rows_kernel(StoredSignal<const S> x, StoredSignal<const S> gate, StoredSignal<const S> factor,
                     StoredSignal<S> other, compute_t<S>* rows, int64_t count, int64_t channels, int64_t length) {
  using T = compute_t<S>;
  const int64_t r = row_of_thread();
  if (r >= count) return;
  const S* const from = x.row(r, channels);
  for (int64_t t = first_item(); t < length; t += item_step()) {
    T value = t < x.time ? convert<T>(from[t]) : T(0);
    if (other && t < x.time) other.row(r, channels)[t] = convert<S>(value * convert<T>(factor.row(r, channels)[t]));
    if (gate && t < x.time) value *= convert<T>(gate.row(r, channels)[t]);
    rows[r * length + t] = value;
  }
}

// y = rows * gate, plain = rows * factor; gate and factor may be absent, and so may y or plain.
template <class S>
__global__ void __launch_bounds__(row_grid_threads)
    write_rows_kernel(const compute_t<S>* rows, StoredSignal<S> y, StoredSignal<const S> gate, StoredSignal<S> plain,
                      StoredSignal<const S> factor, int64_t count, int64_t channels, int64_t length, int64_t time) {
  using T = compute_t<S>;
  const int64_t r = row_of_thread();
  if (r >= count) return;
  for (int64_t t = first_item(); t < time; t += item_step()) {
    const T value = rows[r * length + t];
    if (y) y.row(r, channels)[t] = convert<S>(gate ? value * convert<T>(gate.row(r, channels)[t]) : value);
    if (plain) plain.row(r, channels)[t] = convert<S>(factor ? value * convert<T>(factor.row(r, channels)[t]) : value);
  }
}

template <class S>
void read_rows(const SignalRows& all, const ConstView& x, const ConstView& gate, const ConstView& factor,
               const View& other, compute_t<S>* rows) {
  const RowGrid grid(all.count(), all.length, 4);
  launch(read_rows_kernel<S>, all.device, grid.blocks, grid.threads, 0, stored<S>(x), stored<S>(gate),
         stored<S>(factor), stored<S>(other), rows, all.count(), all.channels, all.length);
}

template <class S>
void write_rows(const SignalRows& all, const compute_t<S>* rows, const View& y, const ConstView& gate,
                const View& plain, const ConstView& factor) {
  if (!y.defined() && !plain.defined()) return;
  const int64_t time = y.defined() ? y.size(2) : plain.size(2);
  const RowGrid grid(all.count(), time, 4);
  launch(write_rows_kernel<S>, all.device, grid.blocks, grid.threads, 0, rows, stored<S>(y), stored<S>(gate),
         stored<S>(plain), stored<S>(factor), all.count(), all.channels, all.length, time);
}

}  // namespace mahia::cuda
