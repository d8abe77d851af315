// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/dyadic.hpp"
#include "backends/cuda/long_conv_ways.hpp"
#include "backends/cuda/signal_rows.cuh"
#include "core/scratch.hpp"

namespace mahia::cuda {
namespace {

int64_t whole_blocks(int64_t time) { return ceil_div(time, DyadicTiling::base) * DyadicTiling::base; }

// The filter in scratch, ready for the tiles.
template <class T>
class DyadicFilter {
 public:
  DyadicFilter(const ConstView& u, const ConstView& h, const ConstView& skip)
      : tiling_{h.size(1), u.size(2)},
        memory_(u.device(), static_cast<size_t>(4 * tiling_.largest() * h.size(0)) * sizeof(T)) {
    prepare_dyadic<T>(u.device(), tiling_, h.size(0), h.data<T>(), skip.defined() ? skip.data<T>() : nullptr,
                      memory_.data<T>());
  }
  DyadicRows<T> rows(const SignalRows& all, bool transposed) const {
    return {all.device, tiling_, memory_.data<T>(), all.count(), all.channels, all.length, transposed};
  }

 private:
  DyadicTiling tiling_;
  Scratch memory_;
};

}  // namespace

void convolve_dyadic(const ConvCall& c) {
  visit_float(c.u.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const SignalRows all(c.u, whole_blocks(c.u.size(2)));
    const DyadicFilter<T> filter(c.u, c.h, c.skip);
    const Scratch memory(all.device, 2 * all.numbers() * sizeof(T));
    T *const v = memory.data<T>(), *const sums = v + all.numbers();
    read_rows<S>(all, c.u, c.gate_before, {}, {}, v);
    check_cuda(cudaMemsetAsync(sums, 0, all.numbers() * sizeof(T), stream_of(all.device)), "cudaMemsetAsync");
    const DyadicRows<T> rows = filter.rows(all, false);
    add_tiles<T>(rows, v, sums, c.u.size(2));
    add_blocks<T>(rows, v, sums, all.length);
    write_rows<S>(all, sums, c.y, c.gate_after, c.ungated, {});
  });
}

void convolve_dyadic_grad(const ConvGradCall& c) {
  visit_float(c.u.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const SignalRows all(c.u, whole_blocks(c.u.size(2)));
    const Scratch memory(all.device, 2 * all.numbers() * sizeof(T));
    T *const r = memory.data<T>(), *const dv = r + all.numbers();
    read_rows<S>(all, c.dy, c.gate_after, c.ungated, c.dgate_after, r);
    if (c.du.defined() || c.dgate_before.defined()) {
      const DyadicFilter<T> filter(c.u, c.h, c.skip);
      check_cuda(cudaMemsetAsync(dv, 0, all.numbers() * sizeof(T), stream_of(all.device)), "cudaMemsetAsync");
      const DyadicRows<T> rows = filter.rows(all, true);
      add_tiles<T>(rows, r, dv, c.u.size(2));
      add_blocks<T>(rows, r, dv, all.length);
      write_rows<S>(all, dv, c.du, c.gate_before, c.dgate_before, c.u);
    }
  });
  if (!c.dh.defined()) return;
  ConvGradCall of_filter = c;
  of_filter.du = of_filter.dgate_before = of_filter.dgate_after = View();
  convolve_with_cufft_grad(of_filter);
}

}  // namespace mahia::cuda
