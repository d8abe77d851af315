// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>

#include "backends/cuda/convert.cuh"
#include "backends/cuda/fft_team.cuh"
#include "backends/cuda/launch.cuh"
#include "backends/cuda/long_conv_ways.hpp"
#include "core/scratch.hpp"
#include "core/view.hpp"

// What the kernels that convolve a row in one block share: operands, rows of teams, and the launch for a length.
namespace mahia::cuda {

inline constexpr int fft_most_bits = 14;  // of a row that one team transforms
static_assert(longest_in_block == 1 << fft_most_bits);

// The power of two, 64 or more, at which rows of `time` are transformed.
inline int fft_bits(int64_t time) {
  return std::max(6, static_cast<int>(std::bit_width(static_cast<uint64_t>(time - 1))));
}

// Calls fn.template operator()<bits>().
template <int bits = 6, class Fn>
void visit_fft_bits(int wanted, const Fn& fn) {
  if (wanted == bits) return fn.template operator()<bits>();
  if constexpr (bits < fft_most_bits) visit_fft_bits<bits + 1>(wanted, fn);
}

// The rows of a view (B, D, T) with time contiguous, or of an absent one.
template <class S>
struct ConvSignal {
  S* data = nullptr;
  int64_t batch_stride = 0, channel_stride = 0;

  __device__ explicit operator bool() const { return data != nullptr; }
  __device__ S* row(int64_t batch, int64_t channel) const {
    return data == nullptr ? nullptr : data + batch * batch_stride + channel * channel_stride;
  }
};
template <class S>
ConvSignal<const S> conv_input(const ConstView& x) {
  if (!x.defined()) return {};
  return {x.data<S>(), x.stride(0), x.stride(1)};
}
template <class S>
ConvSignal<S> conv_output(const View& x) {
  if (!x.defined()) return {};
  return {x.data<S>(), x.stride(0), x.stride(1)};
}

// The filters (D, K) of a call: `count` channels from `first` on, of which the first `reach` taps meet an output. The
// skip weight, if any, is added to the first tap.
struct ConvFilters {
  const float* taps;
  const float* skip;
  int64_t taps_per_channel, first, count;
  int reach;
};
inline ConvFilters conv_filters(const ConstView& h, const ConstView& skip, int64_t time, int64_t first, int64_t count) {
  const int64_t taps = h.size(1);
  return {h.data<float>(), skip.defined() ? skip.data<float>() : nullptr, taps, first,
          count,           static_cast<int>(std::min(taps, time))};
}

// The rows of some neighbouring channels, channel by channel, the batch inside.
struct ConvRows {
  int64_t count, batch, first_channel;
  int time;

  struct Place {
    int64_t batch, channel, filter;
    int time;
  };
  // Behind the last row: the first again, but nothing of it.
  __device__ Place place(int64_t number) const {
    if (number >= count) return {0, first_channel, 0, 0};
    const int64_t filter = static_cast<unsigned>(number) / static_cast<unsigned>(batch);
    return {number - filter * batch, first_channel + filter, filter, time};
  }
};

extern __shared__ float4 fft_shared[];

// The team's part of the block's shared memory, `bytes` for each.
template <class Shape>
__device__ char* team_memory(size_t bytes) {
  return reinterpret_cast<char*>(fft_shared) + threadIdx.x / Shape::threads * bytes;
}
template <class Shape>
__device__ int64_t team_number() {
  return static_cast<int64_t>(blockIdx.x) * Shape::teams + threadIdx.x / Shape::threads;
}

// Calls body(i, t) for the places t < time of this thread, of `count` of its numbers from `first` on.
template <class Team, class Body>
__device__ __forceinline__ void for_times(const Team& same_team, int time, const Body& body, int first = 0,
                                          int count = Team::held) {
  const Team team = same_team.afresh();
#pragma unroll
  for (int i = first; i < first + count; ++i) {
    const int t = team.place(i);
    if (t < time) body(i, t);
  }
}

template <class S, class Team>
__device__ __forceinline__ void scale_row(const Team& team, const S* gate, int time, typename Team::Numbers& x) {
  for_times(team, time, [&](int i, int t) { x[i].re = rounded_product(x[i].re, convert<float>(gate[t])); });
}

// x = row, or row * gate, and zero from `time` on.
template <class S, class Team>
__device__ __forceinline__ void load_row(const Team& team, const S* row, const S* gate, int time,
                                         typename Team::Numbers& x) {
#pragma unroll
  for (int i = 0; i < Team::held; ++i) x[i] = {0.f, 0.f};
  for_times(team, time, [&](int i, int t) { x[i].re = convert<float>(row[t]); });
  if (gate != nullptr) scale_row(team, gate, time, x);
}

// to = the real parts, or their product with what is at `factor`. The imaginary parts are lost: they hold the factors,
// which are read for several products before the first of these is stored. A read behind a store that might be to the
// same place waits for it.
template <class S, class Team>
__device__ __forceinline__ void store_row(const Team& team, typename Team::Numbers& x, const S* factor, int time,
                                          S* to) {
  constexpr int step = 8;
  if (factor == nullptr) return for_times(team, time, [&](int i, int t) { to[t] = convert<S>(x[i].re); });
#pragma unroll
  for (int first = 0; first < Team::held; first += step) {
    const auto read = [&](int i, int t) { x[i].im = convert<float>(factor[t]); };
    const auto write = [&](int i, int t) { to[t] = convert<S>(x[i].re * x[i].im); };
    for_times(team, time, read, first, step);
    for_times(team, time, write, first, step);
  }
}

// Spectra lie as teams hold them: number 0 of all threads, then number 1. This is number i of one.
template <class Team, class C>
__device__ __forceinline__ C* spectrum_at(const Team& team, C* spectra, int64_t row, int i) {
  return spectra + row * Team::Shape::n + team.place(i);
}

// x *= spectrum, or its conjugate; `spectrum` is this thread's.
template <bool conj, class Team>
__device__ __forceinline__ void multiply_by(const Complex* spectrum, typename Team::Numbers& x) {
#pragma unroll
  for (int i = 0; i < Team::held; ++i) {
    const Complex factor = spectrum[i * Team::threads];
    x[i] = conj ? conj_times(factor, x[i]) : times(factor, x[i]);
  }
}

// Starts a kernel with a team for each of `rows`.
template <auto kernel, class Shape, class... Args>
void launch_teams(Device device, int64_t rows, size_t bytes_of_team, const Args&... args) {
  const size_t bytes = Shape::teams * bytes_of_team;
  if (bytes > (size_t{48} << 10)) allow_shared<kernel>(device, bytes);
  launch(kernel, device, blocks_for(rows, Shape::teams), Shape::block, bytes, args...);
}

// Calls body(first channel, channels, scratch) for slices that together are all channels, with `bytes` of scratch each.
template <class Body>
void for_channel_slices(const ConstView& u, size_t bytes, const Body& body) {
  constexpr size_t limit = size_t{512} << 20;
  const int64_t channels = u.size(1),
                fitting = std::max<int64_t>(1, static_cast<int64_t>(limit / std::max<size_t>(bytes, 1)));
  const int64_t step = ceil_div(channels, ceil_div(channels, fitting));
  const Scratch scratch(u.device(), static_cast<size_t>(step) * bytes);
  for (int64_t first = 0; first < channels; first += step) {
    body(first, std::min(step, channels - first), scratch.data<Complex>());
  }
}

// Their spectra, divided by n: (count, n).
void transform_filters(Device device, int bits, const ConvFilters& filters, Complex* spectra);

}  // namespace mahia::cuda
