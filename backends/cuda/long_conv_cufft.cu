// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>

#include "backends/cuda/cufft.hpp"
#include "backends/cuda/long_conv_ways.hpp"
#include "backends/cuda/pack.cuh"
#include "backends/cuda/row_grid.cuh"
#include "core/scratch.hpp"

// cuFFT's transforms of real numbers, in place, zero-filled to a length at which nothing comes round. Three kernels of
// ours stand about them: one reads and gates the signals, one multiplies the spectra, one gates and writes. Channels
// are worked off in chunks; a chunk's rows are channel by channel, the batch inside, and its filters come last, so that
// one call transforms signals and filters. The gradient of the filter is summed over the batch in order.
namespace mahia::cuda {
namespace {

constexpr size_t scratch_limit = size_t{512} << 20;
constexpr int64_t items_per_thread = 4;  // when signals are read and written

// 16 bytes of real numbers, or of (real, imaginary) pairs.
template <class T>
inline constexpr int width_of = 16 / static_cast<int>(sizeof(T));
template <class T>
using Vector = Pack<T, width_of<T>>;

template <class T>
__device__ inline Vector<T>& vector_at(T* numbers) {
  return *reinterpret_cast<Vector<T>*>(numbers);
}
template <class T>
__device__ inline const Vector<T>& vector_at(const T* numbers) {
  return *reinterpret_cast<const Vector<T>*>(numbers);
}

template <class T>
__device__ inline Vector<T> times(const Vector<T>& a, const Vector<T>& b) {
  Vector<T> y;
#pragma unroll
  for (int i = 0; i < width_of<T>; ++i) y.values[i] = a.values[i] * b.values[i];
  return y;
}

// sum + a b, or sum + conj(a) b, for pairs.
template <bool conj, class T>
__device__ inline Vector<T> plus_product(Vector<T> sum, const Vector<T>& a, const Vector<T>& b) {
#pragma unroll
  for (int i = 0; i < width_of<T>; i += 2) {
    const T re = a.values[i], im = conj ? -a.values[i + 1] : a.values[i + 1];
    sum.values[i] += re * b.values[i] - im * b.values[i + 1];
    sum.values[i + 1] += re * b.values[i + 1] + im * b.values[i];
  }
  return sum;
}

// The pairs at t, with frequencies 0 and n/2 made real, as the inverse transform wants them.
template <class T>
__device__ inline Vector<T> with_real_edges(Vector<T> x, int64_t t, int64_t n) {
#pragma unroll
  for (int i = 1; i < width_of<T>; i += 2) {
    if (t + i == 1 || t + i == n + 1) x.values[i] = T(0);
  }
  return x;
}

// A row of storage type S (const where only read). What lies behind the end reads as zero and is not written, the whole
// row where it is absent. Loads are left unconverted, so that several can be under way.
template <class S>
struct Row {
  using Stored = std::remove_const_t<S>;
  using T = compute_t<Stored>;
  static constexpr int width = width_of<T>;
  S* data = nullptr;
  int64_t length = 0;
  bool in_vectors = false;

  __device__ explicit operator bool() const { return length > 0; }

  __device__ Pack<Stored, width> load(int64_t t) const {
    return load_pack<width>(static_cast<const Stored*>(data + t), length - t, in_vectors);
  }

  __device__ void store(int64_t t, const Vector<T>& x) const {
    const auto stored = converted<Stored>(x);
    if (!in_vectors || t + width > length) return store_pack(data + t, length - t, false, stored);
    // An intrinsic: the compiler takes a plain store apart to share code with what it does otherwise.
    using Word = std::conditional_t<sizeof(stored) == 8, uint2, uint4>;
    __stwb(reinterpret_cast<Word*>(data + t), std::bit_cast<Word>(stored));
  }
};

// The rows of a view (B, D, T) with time contiguous, or of an absent one. `in_vectors`: each row begins at a multiple
// of what a vector takes in storage.
template <class S>
struct Signal {
  S* data = nullptr;
  int64_t length = 0, batch_stride = 0, channel_stride = 0;
  bool in_vectors = false;

  __device__ Row<S> row(int64_t batch, int64_t channel) const {
    return {data + batch * batch_stride + channel * channel_stride, length, in_vectors};
  }
};

// The rows of a slice in scratch that a kernel works on, `items` vectors of each. Row r belongs to channel
// first_channel + r / batch and to batch r % batch.
struct Sweep {
  int64_t count, items, pitch, batch, first_channel;

  struct Place {
    int64_t batch, channel;
  };
  __device__ Place place(int64_t row) const {
    const unsigned quotient = static_cast<unsigned>(row) / static_cast<unsigned>(batch);
    return {row - quotient * batch, first_channel + quotient};
  }
};

// rows = x * gate, and then, in element 0 of each channel, + skip. dgate = x * ungated. Either pair may be absent.
template <class S>
struct Input {
  Signal<const S> x, gate = {}, ungated = {};
  Signal<S> dgate = {};
  const compute_t<S>* skip = nullptr;
};

// Bytes moved: each operand once, and the whole rows, zeros included.
template <class S>
__global__ void __launch_bounds__(row_grid_threads)
    load_rows(const Input<S> input, const Sweep sweep, compute_t<S>* rows) {
  using T = compute_t<S>;
  const int64_t row = row_of_thread();
  if (row >= sweep.count) return;
  const auto [batch, channel] = sweep.place(row);
  const auto x = input.x.row(batch, channel), gate = input.gate.row(batch, channel);
  const auto ungated = input.ungated.row(batch, channel);
  const auto dgate = input.dgate.row(batch, channel);
  rows += row * sweep.pitch;
  for (int64_t i = first_item(); i < sweep.items; i += item_step()) {
    const int64_t t = i * width_of<T>;
    const auto stored = x.load(t), gates = gate.load(t), results = ungated.load(t);
    Vector<T> value = converted<T>(stored);
    if (dgate) dgate.store(t, times(value, converted<T>(results)));
    if (gate) value = times(value, converted<T>(gates));
    if (t == 0 && input.skip != nullptr) value.values[0] += input.skip[channel];
    vector_at(rows + t) = value;
  }
}

// to = value * factor, or value itself. May be absent.
template <class S>
struct Output {
  Signal<S> to = {};
  Signal<const S> factor = {};
};

// Both outputs get scale * rows[t] for t < end, else 0. Bytes moved: what is read of the rows, each operand once.
template <class S>
__global__ void __launch_bounds__(row_grid_threads)
    store_rows(const compute_t<S>* rows, const Sweep sweep, int64_t end, compute_t<S> scale, const Output<S> first,
               const Output<S> second) {
  using T = compute_t<S>;
  const int64_t row = row_of_thread();
  if (row >= sweep.count) return;
  const auto [batch, channel] = sweep.place(row);
  const Row<S> to[] = {first.to.row(batch, channel), second.to.row(batch, channel)};
  const Row<const S> factor[] = {first.factor.row(batch, channel), second.factor.row(batch, channel)};
  rows += row * sweep.pitch;
  for (int64_t i = first_item(); i < sweep.items; i += item_step()) {
    const int64_t t = i * width_of<T>;
    const Pack<S, width_of<T>> factors[] = {factor[0].load(t), factor[1].load(t)};
    Vector<T> value{};
    if (t < end) value = vector_at(rows + t);
#pragma unroll
    for (int j = 0; j < width_of<T>; ++j) value.values[j] = t + j < end ? scale * value.values[j] : T(0);
#pragma unroll
    for (int k = 0; k < 2; ++k) to[k].store(t, factor[k] ? times(value, converted<T>(factors[k])) : value);
  }
}

// x *= filter, or its conjugate, where `to_signal`; then filter = the sum over the batch of conj(v) x where there is v,
// with x as it was. One row is one channel. Bytes moved: x twice, v once, the filter once or twice.
template <bool conj, class T>
__global__ void __launch_bounds__(row_grid_threads)
    multiply_spectra(const T* v, T* x, T* filter, const Sweep sweep, int64_t n, bool to_signal) {
  const int64_t channel = row_of_thread();
  if (channel >= sweep.count) return;
  filter += channel * sweep.pitch;
  x += channel * sweep.batch * sweep.pitch;
  if (v != nullptr) v += channel * sweep.batch * sweep.pitch;
  for (int64_t i = first_item(); i < sweep.items; i += item_step()) {
    const int64_t t = i * width_of<T>;
    Vector<T> factor{}, sum{};
    if (to_signal) factor = vector_at(filter + t);
    for (int64_t b = 0; b < sweep.batch; ++b) {
      const int64_t offset = b * sweep.pitch + t;
      const Vector<T> value = vector_at(x + offset);
      if (v != nullptr) {
        const Vector<T> signal = vector_at(v + offset);
        sum = plus_product<true>(sum, signal, value);
      }
      if (to_signal) vector_at(x + offset) = with_real_edges(plus_product<conj>({}, factor, value), t, n);
    }
    if (v != nullptr) vector_at(filter + t) = with_real_edges(sum, t, n);
  }
}

template <class S>
Signal<S> signal_of(S* data, const ConstView& x) {
  constexpr int width = width_of<compute_t<std::remove_const_t<S>>>;
  const auto fits = [&](int axis) { return x.size(axis) == 1 || x.stride(axis) % width == 0; };
  return {data, x.size(2), x.stride(0), x.stride(1), is_aligned(data, sizeof(S) * width) && fits(0) && fits(1)};
}
template <class S>
Signal<const S> reads(const ConstView& x) {
  return x.defined() ? signal_of<const S>(x.data<S>(), x) : Signal<const S>();
}
template <class S>
Signal<S> writes(const View& x) {
  return x.defined() ? signal_of<S>(x.data<S>(), x) : Signal<S>();
}

// The first `length` taps of a filter (D, K) as the rows of a batch of one.
template <class T>
Signal<T> filter_of(T* data, const ConstView& h, int64_t length) {
  const int64_t taps = h.size(1);
  return {data, length, 0, taps, is_aligned(data, 16) && taps % width_of<std::remove_const_t<T>> == 0};
}

// Computes with the skip weight folded into the first tap; taps at `time` or later reach nothing.
template <class T>
Input<T> filter_input(const ConstView& h, const ConstView& skip, int64_t time) {
  Input<T> input{filter_of(h.data<T>(), h, std::min(h.size(1), time))};
  if (skip.defined()) input.skip = skip.data<T>();
  return input;
}

// An even length of `least` or more: a power of two when it is within 15 % of the smallest product of 2, 3, 5 and 7.
int64_t transform_length(int64_t least) {
  const auto power_for = [](int64_t n) { return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n))); };
  const int64_t power = std::max<int64_t>(2, power_for(least));
  int64_t best = power;
  for (int64_t sevens = 1; sevens < power; sevens *= 7) {
    for (int64_t fives = sevens; fives < power; fives *= 5) {
      for (int64_t odd = fives; odd < power; odd *= 3) {
        best = std::min(best, odd * std::max<int64_t>(2, power_for(ceil_div(least, odd))));
      }
    }
  }
  return power * 100 <= best * 115 ? power : best;
}

// Some neighbouring channels: what is in scratch at a time.
struct Slice {
  FftRows rows;
  int64_t first_channel, channels;

  template <class T>
  T* after(T* data, int64_t rows_per_channel) const {
    return data + rows_per_channel * channels * rows.pitch();
  }
  Sweep sweep(int64_t count, int64_t items, int64_t batch) const {
    return {count, items, rows.pitch(), batch, first_channel};
  }
};

// Calls body(slice, scratch) for slices that together are all channels. Long enough for outputs in time and `taps`
// taps: what comes round falls into the zeros behind.
template <class T, class Body>
void for_slices(const ConstView& u, int64_t taps, int64_t rows_per_channel, Body body) {
  const int64_t channels = u.size(1), time = u.size(2);
  const int64_t n = transform_length(time + std::min(taps, time) - 1);
  const FftRows all{u.device(), dtype_of<T>, n, channels * rows_per_channel};
  const int64_t fitting = fitting_count(all, FftDirection::forward, scratch_limit) / rows_per_channel;
  const int64_t step = ceil_div(channels, ceil_div(channels, std::max<int64_t>(1, fitting)));
  const Scratch scratch(u.device(), all.with_count(step * rows_per_channel).bytes());
  for (int64_t first = 0; first < channels; first += step) {
    body(Slice{all, first, std::min(step, channels - first)}, scratch.data<T>());
  }
}

template <class S>
void load(const Slice& slice, int64_t batch, const Input<S>& input, compute_t<S>* data) {
  const Sweep sweep = slice.sweep(slice.channels * batch, slice.rows.pitch() / width_of<compute_t<S>>, batch);
  const RowGrid grid(sweep.count, sweep.items, items_per_thread);
  launch(load_rows<S>, slice.rows.device, grid.blocks, grid.threads, 0, input, sweep, data);
}

template <class S>
void store(const Slice& slice, int64_t batch, int64_t end, const Output<S>& first, const Output<S>& second,
           const compute_t<S>* data) {
  using T = compute_t<S>;
  const int64_t length = std::max(first.to.length, second.to.length);
  const Sweep sweep = slice.sweep(slice.channels * batch, ceil_div(length, width_of<T>), batch);
  const RowGrid grid(sweep.count, sweep.items, items_per_thread);
  const T scale = T(1) / static_cast<T>(slice.rows.n);
  launch(store_rows<S>, slice.rows.device, grid.blocks, grid.threads, 0, data, sweep, end, scale, first, second);
}

template <bool conj, class T>
void multiply(const Slice& slice, int64_t batch, const T* v, T* x, T* filter, bool to_signal) {
  const int64_t n = slice.rows.n;
  const Sweep sweep = slice.sweep(slice.channels, ceil_div(n + 2, width_of<T>), batch);
  const RowGrid grid(sweep.count, sweep.items, 1);
  launch(multiply_spectra<conj, T>, slice.rows.device, grid.blocks, grid.threads, 0, v, x, filter, sweep, n, to_signal);
}

void transform_rows(const Slice& slice, int64_t rows_per_channel, FftDirection direction, void* data) {
  transform(slice.rows.with_count(slice.channels * rows_per_channel), direction, data);
}

}  // namespace

void convolve_with_cufft(const ConvCall& c) {
  visit_float(c.u.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const int64_t batch = c.u.size(0), time = c.u.size(2);
    const Input<S> signal{reads<S>(c.u), reads<S>(c.gate_before)};
    const Input<T> filter = filter_input<T>(c.h, c.skip, time);
    const Output<S> plain{writes<S>(c.ungated)}, gated{writes<S>(c.y), reads<S>(c.gate_after)};
    for_slices<T>(c.u, c.h.size(1), batch + 1, [&](const Slice& slice, T* x) {
      T* const spectrum = slice.after(x, batch);
      load(slice, batch, signal, x);
      load(slice, 1, filter, spectrum);
      transform_rows(slice, batch + 1, FftDirection::forward, x);
      multiply<false, T>(slice, batch, nullptr, x, spectrum, true);
      transform_rows(slice, batch, FftDirection::inverse, x);
      store(slice, batch, time, plain, gated, x);
    });
  });
}

// With r = dy * gate_after and v = u * gate_before: the gradient of v is r correlated with the filter, that of the
// filter v correlated with r. In scratch: v when the filter's is wanted, r, the filter.
void convolve_with_cufft_grad(const ConvGradCall& c) {
  visit_float(c.u.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const int64_t batch = c.u.size(0), time = c.u.size(2);
    const bool to_signal = c.du.defined() || c.dgate_before.defined(), to_filter = c.dh.defined();
    const int64_t of_v = to_filter ? batch : 0, taps = std::max(c.h.size(1), to_filter ? c.dh.size(1) : 1);
    const Input<S> gradient{reads<S>(c.dy), reads<S>(c.gate_after), reads<S>(c.ungated), writes<S>(c.dgate_after)};
    const Input<S> signal{reads<S>(c.u), reads<S>(c.gate_before)};
    const Input<T> filter = filter_input<T>(c.h, c.skip, time);
    const Output<S> before{writes<S>(c.dgate_before), reads<S>(c.u)},
        signal_out{writes<S>(c.du), reads<S>(c.gate_before)};
    const Output<T> filter_out{to_filter ? filter_of(c.dh.data<T>(), c.dh, c.dh.size(1)) : Signal<T>()};
    for_slices<T>(c.u, taps, of_v + batch + 1, [&](const Slice& slice, T* v) {
      T *const r = slice.after(v, of_v), *const spectrum = slice.after(r, batch);
      load(slice, batch, gradient, r);
      if (!to_signal && !to_filter) return;
      if (to_filter) load(slice, batch, signal, v);
      if (to_signal) load(slice, 1, filter, spectrum);
      transform_rows(slice, of_v + batch + to_signal, FftDirection::forward, v);
      multiply<true, T>(slice, batch, to_filter ? v : nullptr, r, spectrum, to_signal);
      transform_rows(slice, (to_signal ? batch : 0) + to_filter, FftDirection::inverse, to_signal ? r : spectrum);
      if (to_signal) store(slice, batch, time, before, signal_out, r);
      if (to_filter) store(slice, 1, time, filter_out, {}, spectrum);
    });
  });
}

}  // namespace mahia::cuda
