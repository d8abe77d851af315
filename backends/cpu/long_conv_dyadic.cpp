// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "backends/cpu/dyadic.hpp"
#include "backends/cpu/long_conv_rows.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"

// One channel is one task: its filter is transformed once for all rows of the batch.
namespace mahia::cpu {
namespace {

constexpr int64_t base = DyadicTiling::base;

int64_t whole_blocks(int64_t time) { return (time + base - 1) / base * base; }

template <class T>
void prepare(const DyadicTiles<T>& tiles, const ConstView& h, const ConstView& skip, int64_t d,
             const DyadicFilter<T>& filter) {
  const T direct = skip.defined() ? skip.data<T>()[d] : T(0);
  tiles.prepare(h.data<T>() + d * h.size(1), h.size(1), direct, filter);
}

}  // namespace

void long_conv_dyadic(const LongConvOperands& from, View y, View ungated) {
  visit_float(y.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const int64_t time = whole_blocks(y.size(2));
    const DyadicTiles<T> tiles({from.h.size(1), y.size(2)});
    parallel_rows(y.size(1), 1, [&](int64_t begin, int64_t end) {
      const int64_t size = 4 * tiles.largest();
      const Scratch scratch(y.device(), static_cast<size_t>(2 * size + 2 * time) * sizeof(T));
      const DyadicFilter<T> filter(scratch.data<T>());
      T *const x = scratch.data<T>() + size, *const v = x + size, *const sums = v + time;
      ForwardRows<S> rows(from, y, ungated);
      for (int64_t d = begin; d < end; ++d) {
        prepare(tiles, from.h, from.skip, d, filter);
        for (int64_t b = 0; b < y.size(0); ++b) {
          rows.read(b, d, v, time);
          std::fill_n(sums, time, T(0));
          tiles.convolve(filter, v, time, time, sums, reinterpret_cast<Complex<T>*>(x));
          rows.write(b, d, sums);
        }
      }
    });
  });
}

void long_conv_dyadic_grad(const LongConvOperands& from, ConstView ungated, ConstView dy, const LongConvGradients& to) {
  visit_float(dy.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const int64_t time = whole_blocks(dy.size(2));
    const DyadicTiles<T> tiles({from.h.size(1), dy.size(2)});
    const View& dh = to.h;
    parallel_rows(dy.size(1), 1, [&](int64_t begin, int64_t end) {
      const int64_t size = 4 * tiles.largest();
      const Scratch scratch(dy.device(), static_cast<size_t>(3 * size + 3 * time) * sizeof(T));
      const DyadicFilter<T> filter(scratch.data<T>()), dfilter(filter.taps() - base + size);
      T *const x = scratch.data<T>() + 2 * size, *const r = x + size, *const v = r + time, *const dv = v + time;
      BackwardRows<S> rows(from, ungated, dy, to);
      for (int64_t d = begin; d < end; ++d) {
        prepare(tiles, from.h, from.skip, d, filter);
        double near[2 * base] = {};
        std::fill_n(dfilter.taps() - base, size, T(0));
        for (int64_t b = 0; b < dy.size(0); ++b) {
          rows.read_gradient(b, d, r, time);
          rows.read_signal(b, d, v, time);
          std::fill_n(dv, time, T(0));
          tiles.transpose(filter, r, v, time, dv, dfilter, dh.defined() ? near : nullptr,
                          reinterpret_cast<Complex<T>*>(x));
          rows.write(b, d, dv);
        }
        if (!dh.defined()) continue;
        const int64_t taps = dh.size(1), reached = std::min({taps, dy.size(2), 2 * tiles.largest()});
        T* const first = dh.data<T>() + d * taps;
        tiles.finish(dfilter, near, reached, first);
        std::fill(first + reached, first + taps, T(0));
      }
    });
  });
}

}  // namespace mahia::cpu
