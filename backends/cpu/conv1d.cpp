// SPDX-License-Identifier: Apache-2.0
#include "ops/conv1d.hpp"

#include <algorithm>

#include "backends/cpu/conv1d_rows.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"

// Bound by memory: 8 bytes an element forward and 12 backward (f32), and what the processor reads before it overwrites.
namespace mahia::cpu {
namespace {

// Channels of one task, neighbours in memory.
constexpr int64_t channel_tile = 8;

// Calls body(b, c, next b, next c, work) for each row, the channels of a task in the order in which they lie in memory
// and the batch in order, so that sums over the batch have one order.
template <class S, class Body>
void for_rows(const ConstView& x, const RowFilter<S>& filter, Body body) {
  parallel_rows(x.size(1), channel_tile, [&](int64_t begin, int64_t end) {
    const Scratch work(x.device(), filter.work_size() * sizeof(compute_t<S>));
    for (int64_t b = 0; b < x.size(0); ++b) {
      for (int64_t c = begin; c < end; ++c) {
        const bool last = c + 1 == end;
        body(b, c, last ? b + 1 : b, last ? begin : c + 1, work.data<compute_t<S>>());
      }
    }
  });
}

void depthwise_conv1d(ConstView x, ConstView weight, ConstView bias, View y, int64_t left, int64_t dilation) {
  visit_float(x.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const RowFilter<S> filter{weight.size(1), left, dilation};
    const auto from = signal<S>(x);
    const auto to = signal<S>(y);
    for_rows(x, filter, [&](int64_t b, int64_t c, int64_t next_b, int64_t next_c, T* work) {
      from.row(next_b, next_c).expect(0, x.size(2));
      to.row(next_b, next_c).expect(0, y.size(2));
      const T start = bias.defined() ? bias.data<T>()[c] : T(0);
      filter.forward(from.row(b, c), weight.data<T>() + c * filter.taps, start, to.row(b, c), work);
    });
  });
}

void depthwise_conv1d_grad(ConstView x, ConstView weight, ConstView dy, View dx, View dweight, View dbias, int64_t left,
                           int64_t dilation) {
  visit_float(x.dtype(), [&]<class S>() {
    using T = compute_t<S>;
    const RowFilter<S> filter{weight.size(1), left, dilation};
    const auto from = signal<S>(x), gradient = signal<S>(dy);
    const auto to = signal<S>(dx);
    T* const dw = dweight.defined() ? dweight.data<T>() : nullptr;
    T* const db = dbias.defined() ? dbias.data<T>() : nullptr;
    if (dw != nullptr) std::fill(dw, dw + weight.numel(), T(0));
    if (db != nullptr) std::fill(db, db + x.size(1), T(0));
    for_rows(x, filter, [&](int64_t b, int64_t c, int64_t next_b, int64_t next_c, T* work) {
      from.row(next_b, next_c).expect(0, x.size(2));
      gradient.row(next_b, next_c).expect(0, dy.size(2));
      to.row(next_b, next_c).expect(0, x.size(2));
      const T* const taps = weight.data<T>() + c * filter.taps;
      if (to.row(b, c)) filter.backward(gradient.row(b, c), taps, to.row(b, c), work);
      filter.add_weight_gradients(from.row(b, c), gradient.row(b, c), dw == nullptr ? dw : dw + c * filter.taps,
                                  db == nullptr ? db : db + c, work);
    });
  });
}

const Registered registered_depthwise_conv1d(DeviceType::cpu, kernels::depthwise_conv1d, depthwise_conv1d);
const Registered registered_depthwise_conv1d_grad(DeviceType::cpu, kernels::depthwise_conv1d_grad,
                                                  depthwise_conv1d_grad);

}  // namespace
}  // namespace mahia::cpu
