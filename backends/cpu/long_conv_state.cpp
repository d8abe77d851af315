// SPDX-License-Identifier: Apache-2.0
#include "ops/long_conv_state.hpp"

#include <algorithm>

#include "backends/cpu/dyadic.hpp"
#include "backends/cpu/long_conv_rows.hpp"
#include "backends/cpu/time_sums.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"

// Channels are cut into tasks. A step's products are those of `triangle` in the order of their inputs.
namespace mahia::cpu {
namespace {

constexpr int64_t base = DyadicTiling::base;
constexpr int64_t numbers_per_task = 1 << 14;

// Row (b, d) of a contiguous view (B, D, N), or the filter of channel d.
template <class T>
T* row_of(const ConstView& x, int64_t b, int64_t d) {
  return const_cast<T*>(x.data<T>()) + (b * x.size(1) + d) * x.size(2);
}
template <class T>
DyadicFilter<T> filter_of(const ConstView& filter, int64_t d) {
  return DyadicFilter<T>(const_cast<T*>(filter.data<T>()) + d * filter.size(1));
}

template <class T>
size_t transform_bytes(const ConstView& filter) {
  return static_cast<size_t>(filter.size(1)) * sizeof(T);
}

void long_conv_state_filter(ConstView h, ConstView skip, View filter, DyadicTiling tiling) {
  visit_float(h.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const DyadicTiles<T> tiles(tiling);
    parallel_rows(h.size(0), 1, [&](int64_t begin, int64_t end) {
      for (int64_t d = begin; d < end; ++d) {
        const T direct = skip.defined() ? skip.data<T>()[d] : T(0);
        tiles.prepare(h.data<T>() + d * h.size(1), h.size(1), direct, filter_of<T>(filter, d));
      }
    });
  });
}

void long_conv_state_prefill(ConstView filter, ConstView u, ConstView gate_before, ConstView gate_after, View history,
                             View sums, View block, View y, DyadicTiling tiling) {
  visit_float(u.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const int64_t time = u.size(2), whole = time / base * base, length = history.size(2);
    const DyadicTiles<T> tiles(tiling);
    const LongConvOperands operands{{u, {}, {}}, {gate_before, {}, {}}, {gate_after, {}, {}}, {}, {}};
    parallel_rows(u.size(1), 1, [&](int64_t begin, int64_t end) {
      const Scratch scratch(u.device(), transform_bytes<T>(filter));
      auto* const x = scratch.data<Complex<T>>();
      ForwardRows<S> rows(operands, y, {});
      for (int64_t d = begin; d < end; ++d) {
        const DyadicFilter<T> taps = filter_of<T>(filter, d);
        for (int64_t b = 0; b < u.size(0); ++b) {
          T *const v = row_of<T>(history, b, d), *const sum = row_of<T>(sums, b, d);
          T* const present = row_of<T>(block, b, d);
          rows.read(b, d, v, std::min(length, whole + base));
          tiles.convolve(taps, v, whole, length, sum, x);
          if (whole < time && whole > 0) tiles.add_tile(taps, v, whole, length, sum, x);
          for (int64_t t = whole; t < time; ++t) add_term(taps.taps(), v[t], whole + base - t, present + t - whole);
          for (int64_t t = whole; t < time; ++t) sum[t] += present[t - whole];
          rows.write(b, d, sum);
        }
      }
    });
  });
}

void long_conv_state_tile(ConstView filter, ConstView history, View sums, int64_t position, DyadicTiling tiling) {
  visit_float(history.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const DyadicTiles<T> tiles(tiling);
    const int64_t numbers = history.size(0) * tiling.at(position);  // of one channel
    parallel_rows(history.size(1), std::max<int64_t>(1, numbers_per_task / numbers), [&](int64_t begin, int64_t end) {
      const Scratch scratch(history.device(), transform_bytes<T>(filter));
      for (int64_t d = begin; d < end; ++d) {
        for (int64_t b = 0; b < history.size(0); ++b) {
          tiles.add_tile(filter_of<T>(filter, d), row_of<T>(history, b, d), position, history.size(2),
                         row_of<T>(sums, b, d), scratch.data<Complex<T>>());
        }
      }
    });
  });
}

void long_conv_state_step(ConstView filter, ConstView u, ConstView gate_before, ConstView gate_after, View history,
                          ConstView sums, View block, View y, int64_t position) {
  constexpr int64_t channels_per_task = 256;
  visit_float(u.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const int64_t channels = u.size(1), place = position % base;
    const S *const inputs = u.data<S>(), *const before = gate_before.defined() ? gate_before.data<S>() : nullptr;
    const S* const after = gate_after.defined() ? gate_after.data<S>() : nullptr;
    parallel_rows(channels, channels_per_task, [&](int64_t begin, int64_t end) {
      for (int64_t b = 0; b < u.size(0); ++b) {
        for (int64_t d = begin; d < end; ++d) {
          const int64_t i = b * channels + d;
          T v = static_cast<T>(inputs[i]);
          if (before != nullptr) v *= static_cast<T>(before[i]);
          row_of<T>(history, b, d)[position] = v;
          T* const present = row_of<T>(block, b, d);
          if (place == 0) std::fill_n(present, base, T(0));
          add_term(filter_of<T>(filter, d).taps(), v, base - place, present + place);
          const T value = row_of<T>(sums, b, d)[position] + present[place];
          y.data<S>()[i] = static_cast<S>(after != nullptr ? value * static_cast<T>(after[i]) : value);
        }
      }
    });
  });
}

const Registered registered_filter(DeviceType::cpu, kernels::long_conv_state_filter, long_conv_state_filter);
const Registered registered_prefill(DeviceType::cpu, kernels::long_conv_state_prefill, long_conv_state_prefill);
const Registered registered_tile(DeviceType::cpu, kernels::long_conv_state_tile, long_conv_state_tile);
const Registered registered_step(DeviceType::cpu, kernels::long_conv_state_step, long_conv_state_step);

}  // namespace
}  // namespace mahia::cpu
