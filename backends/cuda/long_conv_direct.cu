// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/long_conv_ways.hpp"
#include "backends/cuda/rows.cuh"
#include "backends/cuda/signal_rows.cuh"
#include "core/scratch.hpp"

// 2 B D T K operations. A block makes `tile` outputs of a row from pieces of `chunk` taps, which it keeps with their
// inputs in shared memory; a thread makes `run` neighbouring outputs, so that a tap and an input that it reads serve
// `run` products.
namespace mahia::cuda {
namespace {

constexpr int threads = 128, run = 8, tile = threads * run, chunk = 128;
constexpr int tap_group = 8, grad_threads = 256;
constexpr int64_t most_rows_of_grid = 65535;

// One number in 32 stays free: threads `run` apart use different banks.
__device__ constexpr int padded(int i) { return i + (i >> 5); }

// out[t] = sum over k of h[k] in[t - k], plus skip in[t]; `mirrored`: of in[t + k].
template <class T>
__global__ void __launch_bounds__(threads) direct_kernel(const T* in, const T* h, const T* skip, T* out, int64_t rows,
                                                         int64_t channels, int64_t time, int64_t taps, bool mirrored) {
  __shared__ T inputs[padded(tile + chunk) + 1];
  __shared__ T weights[chunk];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * tile;  // of the outputs, from the end where mirrored
  const int place = static_cast<int>(threadIdx.x) * run;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const int64_t d = row % channels;
    const auto at = [&](int64_t t) { return row * time + (mirrored ? time - 1 - t : t); };
    T sums[run] = {};
    for (int64_t k0 = 0; k0 < min(taps, first + tile); k0 += chunk) {
      __syncthreads();
      for (int i = static_cast<int>(threadIdx.x); i < tile + chunk; i += threads) {
        const int64_t t = first - k0 - chunk + i;
        inputs[padded(i)] = t >= 0 && t < time ? in[at(t)] : T(0);
      }
      weights[threadIdx.x] = 0;
      if (k0 + threadIdx.x < taps) weights[threadIdx.x] = h[d * taps + k0 + threadIdx.x];
      if (k0 + threadIdx.x == 0 && skip != nullptr) weights[threadIdx.x] += skip[d];
      __syncthreads();
      T window[run];  // the inputs of this thread's outputs, for tap k
#pragma unroll
      for (int i = 0; i < run; ++i) window[i] = inputs[padded(chunk + place + i)];
      const int count = static_cast<int>(min(static_cast<int64_t>(chunk), taps - k0));
      for (int k = 0; k < count; ++k) {
        const T weight = weights[k];
#pragma unroll
        for (int i = 0; i < run; ++i) sums[i] = fma(weight, window[i], sums[i]);
#pragma unroll
        for (int i = run - 1; i > 0; --i) window[i] = window[i - 1];
        window[0] = inputs[padded(chunk + place - k - 1)];
      }
    }
#pragma unroll
    for (int i = 0; i < run; ++i) {
      if (first + place + i < time) out[at(first + place + i)] = sums[i];
    }
  }
}

// dh[d, k] = sum over the batch and t of r[t] v[t - k], for tap_group taps of one channel.
template <class T>
__global__ void __launch_bounds__(grad_threads)
    direct_taps_kernel(const T* r, const T* v, T* dh, int64_t batch, int64_t channels, int64_t time, int64_t taps) {
  __shared__ T shared[grad_threads / 32];
  const int64_t k0 = static_cast<int64_t>(blockIdx.x) * tap_group;
  for (int64_t d = blockIdx.y; d < channels; d += gridDim.y) {
    T sums[tap_group] = {};
    for (int64_t b = 0; b < batch; ++b) {
      const T *const gradient = r + (b * channels + d) * time, *const signal = v + (b * channels + d) * time;
      for (int64_t t = k0 + threadIdx.x; t < time; t += grad_threads) {
        const T factor = gradient[t];
#pragma unroll
        for (int i = 0; i < tap_group; ++i) {
          if (t >= k0 + i) sums[i] = fma(factor, signal[t - k0 - i], sums[i]);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < tap_group; ++i) {
      const T sum = block_reduce(sums[i], Plus(), shared);
      if (threadIdx.x == 0 && k0 + i < taps) dh[d * taps + k0 + i] = sum;
    }
  }
}

template <class T>
void convolve(const SignalRows& all, const T* in, const ConstView& h, const ConstView& skip, bool mirrored, T* out) {
  const dim3 grid(blocks_for(all.length, tile), static_cast<unsigned>(std::min(all.count(), most_rows_of_grid)));
  launch(direct_kernel<T>, all.device, grid, threads, 0, in, h.data<T>(), data_or_null<T>(skip), out, all.count(),
         all.channels, all.length, h.size(1), mirrored);
}

}  // namespace

void convolve_direct(const ConvCall& c) {
  visit_float(c.u.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const SignalRows all(c.u, c.u.size(2));
    const Scratch memory(all.device, 2 * all.numbers() * sizeof(T));
    T *const v = memory.data<T>(), *const sums = v + all.numbers();
    read_rows<S>(all, c.u, c.gate_before, {}, {}, v);
    convolve<T>(all, v, c.h, c.skip, false, sums);
    write_rows<S>(all, sums, c.y, c.gate_after, c.ungated, {});
  });
}

void convolve_direct_grad(const ConvGradCall& c) {
  visit_float(c.u.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const SignalRows all(c.u, c.u.size(2));
    const Scratch memory(all.device, 2 * all.numbers() * sizeof(T));
    T *const r = memory.data<T>(), *const v = r + all.numbers();
    read_rows<S>(all, c.dy, c.gate_after, c.ungated, c.dgate_after, r);
    if (c.dh.defined()) {
      read_rows<S>(all, c.u, c.gate_before, {}, {}, v);
      const int64_t taps = c.dh.size(1);
      const dim3 grid(blocks_for(taps, tap_group), static_cast<unsigned>(std::min(all.channels, most_rows_of_grid)));
      launch(direct_taps_kernel<T>, all.device, grid, grad_threads, 0, static_cast<const T*>(r),
             static_cast<const T*>(v), c.dh.data<T>(), all.batch, all.channels, all.length, taps);
    }
    if (!c.du.defined() && !c.dgate_before.defined()) return;
    convolve<T>(all, r, c.h, c.skip, true, v);
    write_rows<S>(all, v, c.du, c.gate_before, c.dgate_before, c.u);
  });
}

}  // namespace mahia::cuda
