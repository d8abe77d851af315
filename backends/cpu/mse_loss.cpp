// SPDX-License-Identifier: Apache-2.0
#include "ops/mse_loss.hpp"

#include "backends/cpu/rows.hpp"
#include "core/scratch.hpp"

namespace mahia::cpu {
namespace {

// Reduced sums are taken per tile of 16384 elements, then over the tiles.
void mse_loss(ConstView x, ConstView target, Reduction reduction, View y) {
  visit_float(x.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    const int64_t n = x.numel(), tiles = (n + elementwise_tile - 1) / elementwise_tile;
    const Row<const X> a(x.data<X>(), n), b(target.data<X>(), n);
    const auto square = [&](int64_t i) { return (a.load(i) - b.load(i)) * (a.load(i) - b.load(i)); };
    const Scratch scratch(cpu_device, static_cast<size_t>(tiles) * sizeof(S));
    const Row<S> sums(scratch.data<S>(), tiles), each(y.data<S>(), n);
    parallel_rows(n, elementwise_tile, [&](int64_t begin, int64_t end) {
      if (reduction == Reduction::none) {
        for (int64_t i = begin; i < end; i += lane_count<S>) each.store(i, square(i));
      } else {
        sums.data()[begin / elementwise_tile] = sum_row<S>(end - begin, [&](int64_t i) { return square(begin + i); });
      }
    });
    if (reduction == Reduction::none) return;
    const S total = sum_row<S>(tiles, [&](int64_t i) { return sums.load(i); });
    *y.data<S>() = reduction == Reduction::mean ? total / static_cast<S>(n) : total;
  });
}

void mse_loss_grad(ConstView x, ConstView target, ConstView dy, Reduction reduction, double sign, View dx) {
  visit_float(x.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    const int64_t n = x.numel();
    const Row<const X> a(x.data<X>(), n), b(target.data<X>(), n);
    const Row<const S> each(dy.data<S>(), n);
    const Row<X> to(dx.data<X>(), n);
    const S two = static_cast<S>(2 * sign);
    const bool whole = reduction != Reduction::none;
    const S all = !whole || n == 0 ? S(1) : *dy.data<S>() / (reduction == Reduction::mean ? static_cast<S>(n) : S(1));
    parallel_rows(n, elementwise_tile, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i += lane_count<S>) {
        const Vec<S> slope = two * (a.load(i) - b.load(i));
        to.store(i, whole ? slope * all : slope * each.load(i));
      }
    });
  });
}

const Registered registered_mse_loss(DeviceType::cpu, kernels::mse_loss, mse_loss);
const Registered registered_mse_loss_grad(DeviceType::cpu, kernels::mse_loss_grad, mse_loss_grad);

}  // namespace
}  // namespace mahia::cpu
