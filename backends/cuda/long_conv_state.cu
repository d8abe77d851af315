// SPDX-License-Identifier: Apache-2.0
#include "ops/long_conv_state.hpp"

#include "backends/cuda/dyadic.hpp"
#include "backends/cuda/rows.cuh"
#include "backends/cuda/signal_rows.cuh"

// A step's products are those of a block of the dyadic form in the same order: its bits are those of prefill.
namespace mahia::cuda {
namespace {

constexpr int base = static_cast<int>(DyadicTiling::base);

template <class T>
DyadicRows<T> rows_of(const ConstView& filter, const ConstView& history, DyadicTiling tiling) {
  return {history.device(), tiling,         filter.data<T>(), history.size(0) * history.size(1),
          history.size(1),  history.size(2)};
}

void long_conv_state_filter(ConstView h, ConstView skip, View filter, DyadicTiling tiling) {
  visit_float(h.dtype(), [&]<class S>() {
    if constexpr (sizeof(S) >= 4) {
      prepare_dyadic<S>(h.device(), tiling, h.size(0), h.data<S>(), skip.defined() ? skip.data<S>() : nullptr,
                        filter.data<S>());
    }
  });
}

// What the inputs of an unfinished block, `count` of them, owe to the outputs of that block.
template <class T>
__global__ void __launch_bounds__(base) present_kernel(const T* history, const T* filter, T* block, int64_t channels,
                                                       int64_t length, int64_t filter_step, int64_t begin, int count) {
  const int64_t row = blockIdx.x;
  const int j = static_cast<int>(threadIdx.x);
  const T *const in = history + row * length + begin, *const taps = filter + row % channels * filter_step;
  T sum = 0;
  for (int i = 0; i <= j && i < count; ++i) sum = fma(in[i], taps[j - i], sum);
  block[row * base + j] = sum;
}

void long_conv_state_prefill(ConstView filter, ConstView u, ConstView gate_before, ConstView gate_after, View history,
                             View sums, View block, View y, DyadicTiling tiling) {
  visit_float(u.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const int64_t time = u.size(2), begun = time % base;
    const SignalRows all(u, history.size(2));
    T *const v = history.data<T>(), *const to = sums.data<T>();
    read_rows<S>(all, u, gate_before, {}, {}, v);
    const DyadicRows<T> rows = rows_of<T>(filter, history, tiling);
    add_tiles<T>(rows, v, to, time);
    if (begun > 0) {
      launch(present_kernel<T>, all.device, static_cast<unsigned>(all.count()), base, 0, static_cast<const T*>(v),
             filter.data<T>(), block.data<T>(), all.channels, all.length, filter.size(1), time - begun,
             static_cast<int>(begun));
    }
    add_blocks<T>(rows, v, to, time);
    write_rows<S>(all, to, y, gate_after, {}, {});
  });
}

void long_conv_state_tile(ConstView filter, ConstView history, View sums, int64_t position, DyadicTiling tiling) {
  visit_float(history.dtype(), [&]<class S>() {
    if constexpr (sizeof(S) >= 4)
      add_tile<S>(rows_of<S>(filter, history, tiling), history.data<S>(), sums.data<S>(), position);
  });
}

// A block of threads for each row (B D); thread k adds what the input owes to the output k steps later.
template <class S, class T = compute_t<S>>
__global__ void __launch_bounds__(base)
    step_kernel(const T* filter, int64_t filter_step, const S* u, const S* before, const S* after, T* history,
                const T* sums, T* block, S* y, int64_t channels, int64_t length, int64_t position) {
  const int64_t row = blockIdx.x;
  const int k = static_cast<int>(threadIdx.x), place = static_cast<int>(position % base);
  T v = convert<T>(u[row]);
  if (before != nullptr) v *= convert<T>(before[row]);
  if (place + k >= base) return;
  T* const present = block + row * base + place + k;
  const T sum = fma(v, filter[row % channels * filter_step + k], place == 0 ? T(0) : *present);
  *present = sum;
  if (k > 0) return;
  history[row * length + position] = v;
  const T value = sums[row * length + position] + sum;
  y[row] = convert<S>(after != nullptr ? value * convert<T>(after[row]) : value);
}

void long_conv_state_step(ConstView filter, ConstView u, ConstView gate_before, ConstView gate_after, View history,
                          ConstView sums, View block, View y, int64_t position) {
  visit_float(u.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    launch(step_kernel<S>, u.device(), static_cast<unsigned>(u.numel()), base, 0, filter.data<T>(), filter.size(1),
           u.data<S>(), data_or_null<S>(gate_before), data_or_null<S>(gate_after), history.data<T>(), sums.data<T>(),
           block.data<T>(), y.data<S>(), u.size(1), history.size(2), position);
  });
}

const Registered registered_filter(DeviceType::cuda, kernels::long_conv_state_filter, long_conv_state_filter);
const Registered registered_prefill(DeviceType::cuda, kernels::long_conv_state_prefill, long_conv_state_prefill);
const Registered registered_tile(DeviceType::cuda, kernels::long_conv_state_tile, long_conv_state_tile);
const Registered registered_step(DeviceType::cuda, kernels::long_conv_state_step, long_conv_state_step);

}  // namespace
}  // namespace mahia::cuda
