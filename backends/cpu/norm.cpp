// SPDX-License-Identifier: Apache-2.0
#include "ops/norm.hpp"

#include <cmath>

#include "backends/cpu/rows.hpp"
#include "core/scratch.hpp"

namespace mahia::cpu {
namespace {

constexpr int64_t tile = 64;  // rows whose shares of dweight and dbias are summed in one slot

// A weight or bias in the type sums are taken in; `absent` where there is none.
template <class S>
Row<const S> widened(const ConstView& x, int64_t n, S absent, S* buffer) {
  std::fill_n(buffer, n, absent);
  if (x.defined()) {
    visit_float(x.dtype(), [&]<class X>() {
      for (int64_t i = 0; i < n; ++i) buffer[i] = convert<S>(x.data<X>()[i]);
    });
  }
  return {buffer, n};
}

void layer_norm(ConstView x, ConstView weight, ConstView bias, double eps, View y, View mean, View rstd) {
  visit_float(x.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    const int64_t n = x.size(-1);
    const Scratch scratch(cpu_device, static_cast<size_t>(2 * n) * sizeof(S));
    const Row<const S> scale = widened<S>(weight, n, 1, scratch.data<S>());
    const Row<const S> shift = widened<S>(bias, n, 0, scratch.data<S>() + n);
    for_rows(x, [&](int64_t row) {
      const Row<const X> from = row_of<X>(x, row);
      const Row<X> to = row_of<X>(y, row);
      const S count = static_cast<S>(n);
      const S centre = mean.defined() ? sum_row<S>(n, [&](int64_t i) { return from.load(i); }) / count : S(0);
      const S spread = sum_row<S>(n, [&](int64_t i) { return (from.load(i) - centre) * (from.load(i) - centre); });
      const S factor = 1 / std::sqrt(spread / count + static_cast<S>(eps));
      for (int64_t i = 0; i < n; i += lane_count<S>) {
        to.store(i, (from.load(i) - centre) * factor * scale.load(i) + shift.load(i));
      }
      if (mean.defined()) mean.data<S>()[row] = centre;
      rstd.data<S>()[row] = factor;
    });
  });
}

// One row: with z = (x - mean) rstd and g = weight dy, dx = rstd (g - mean(g) - z mean(g z)).
template <class X, class S>
struct RowGradient {
  Row<const X> x, dy;
  Row<const S> weight;
  S mean, rstd;
  bool centred;

  Vec<S> z(int64_t i) const { return (x.load(i) - mean) * rstd; }
  Vec<S> g(int64_t i) const { return dy.load(i) * weight.load(i); }

  void write(int64_t n, const Row<X>& dx) const {
    const S count = static_cast<S>(n);
    const S average = centred ? sum_row<S>(n, [&](int64_t i) { return g(i); }) / count : S(0);
    const S along = sum_row<S>(n, [&](int64_t i) { return g(i) * z(i); }) / count;
    for (int64_t i = 0; i < n; i += lane_count<S>) dx.store(i, rstd * (g(i) - average - z(i) * along));
  }

  void add(int64_t n, const Row<S>& dweight, const Row<S>& dbias) const {
    for (int64_t i = 0; i < n; i += lane_count<S>) {
      dweight.store(i, Row<const S>(dweight.data(), n).load(i) + dy.load(i) * z(i));
      dbias.store(i, Row<const S>(dbias.data(), n).load(i) + dy.load(i));
    }
  }
};

// total[j] = slots[0][j] + slots[1][j] + ... in order.
template <class S>
void sum_slots(const S* slots, int64_t count, int64_t stride, int64_t n, const View& total) {
  if (!total.defined()) return;
  constexpr int64_t strip = 256;
  visit_float(total.dtype(), [&]<class W>() {
    parallel_rows(n, strip, [&](int64_t begin, int64_t end) {
      S sum[strip] = {};
      for (int64_t i = 0; i < count; ++i) {
        for (int64_t j = begin; j < end; ++j) sum[j - begin] += slots[i * stride + j];
      }
      for (int64_t j = begin; j < end; ++j) total.data<W>()[j] = convert<W>(sum[j - begin]);
    });
  });
}

void layer_norm_grad(ConstView x, ConstView dy, ConstView weight, ConstView mean, ConstView rstd, View dx, View dweight,
                     View dbias) {
  visit_float(x.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    const int64_t n = x.size(-1), rows = x.numel() / n, tiles = (rows + tile - 1) / tile;
    const bool sums = dweight.defined() || dbias.defined();
    const Scratch scratch(cpu_device, static_cast<size_t>((1 + (sums ? 2 * tiles : 0)) * n) * sizeof(S));
    const Row<const S> scale = widened<S>(weight, n, 1, scratch.data<S>());
    S* slots = scratch.data<S>() + n;
    parallel_rows(rows, tile, [&](int64_t begin, int64_t end) {
      const Row<S> weight_sum(slots + begin / tile * 2 * n, n), bias_sum(weight_sum.data() + n, n);
      if (sums) std::fill_n(weight_sum.data(), 2 * n, S(0));
      for (int64_t row = begin; row < end; ++row) {
        const RowGradient<X, S> gradient{
            row_of<X>(x, row),   row_of<X>(dy, row), scale, mean.defined() ? mean.data<S>()[row] : S(0),
            rstd.data<S>()[row], mean.defined()};
        if (dx.defined()) gradient.write(n, row_of<X>(dx, row));
        if (sums) gradient.add(n, weight_sum, bias_sum);
      }
    });
    sum_slots(slots, tiles, 2 * n, n, dweight);
    sum_slots(slots + n, tiles, 2 * n, n, dbias);
  });
}

// Rows of one channel of x (N, C, T), in order; a channel is one task.
template <class Body>
void for_channels(const ConstView& x, Body&& body) {
  parallel_rows(x.size(1), std::max<int64_t>(1, elementwise_tile / (x.size(0) * x.size(2))),
                [&](int64_t begin, int64_t end) {
                  for (int64_t c = begin; c < end; ++c) body(c);
                });
}

// Sums at(row, i) over a channel.
template <class S, class At>
S sum_channel(const ConstView& x, int64_t channel, At&& at) {
  S sum = 0;
  for (int64_t b = 0; b < x.size(0); ++b) {
    const int64_t row = b * x.size(1) + channel;
    sum += sum_row<S>(x.size(2), [&](int64_t i) { return at(row, i); });
  }
  return sum;
}

void batch_norm_stats(ConstView x, View mean, View var) {
  visit_float(x.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    const S count = static_cast<S>(x.size(0) * x.size(2));
    for_channels(x, [&](int64_t c) {
      const S centre = sum_channel<S>(x, c, [&](int64_t row, int64_t i) { return row_of<X>(x, row).load(i); }) / count;
      const S spread = sum_channel<S>(x, c, [&](int64_t row, int64_t i) {
        const Vec<S> off = row_of<X>(x, row).load(i) - centre;
        return off * off;
      });
      mean.data<S>()[c] = centre;
      var.data<S>()[c] = spread / count;
    });
  });
}

template <class S>
S rstd_of(const ConstView& var, int64_t channel, double eps) {
  return 1 / std::sqrt(var.data<S>()[channel] + static_cast<S>(eps));
}

void batch_norm(ConstView x, ConstView weight, ConstView bias, ConstView mean, ConstView var, double eps, View y) {
  visit_float(x.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    const int64_t channels = x.size(1);
    const Scratch scratch(cpu_device, static_cast<size_t>(2 * channels) * sizeof(S));
    const S* scale = widened<S>(weight, channels, 1, scratch.data<S>()).data();
    const S* shift = widened<S>(bias, channels, 0, scratch.data<S>() + channels).data();
    for_rows(x, [&](int64_t row) {
      const int64_t c = row % channels;
      const S centre = mean.data<S>()[c], factor = rstd_of<S>(var, c, eps);
      const Row<const X> from = row_of<X>(x, row);
      const Row<X> to = row_of<X>(y, row);
      for (int64_t i = 0; i < x.size(2); i += lane_count<S>) {
        to.store(i, (from.load(i) - centre) * factor * scale[c] + shift[c]);
      }
    });
  });
}

void batch_norm_grad(ConstView x, ConstView dy, ConstView weight, ConstView mean, ConstView var, double eps,
                     bool training, View dx, View dweight, View dbias) {
  visit_float(x.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    const int64_t channels = x.size(1);
    const S count = static_cast<S>(x.size(0) * x.size(2));
    const Scratch scratch(cpu_device, static_cast<size_t>(3 * channels) * sizeof(S));
    const S* scale = widened<S>(weight, channels, 1, scratch.data<S>()).data();
    S *sum_dy = scratch.data<S>() + channels, *sum_dy_z = sum_dy + channels;
    for_channels(x, [&](int64_t c) {
      const S centre = mean.data<S>()[c], factor = rstd_of<S>(var, c, eps);
      const auto z = [&](int64_t row, int64_t i) { return (row_of<X>(x, row).load(i) - centre) * factor; };
      const auto g = [&](int64_t row, int64_t i) { return row_of<X>(dy, row).load(i); };
      sum_dy[c] = sum_channel<S>(x, c, g);
      sum_dy_z[c] = sum_channel<S>(x, c, [&](int64_t row, int64_t i) { return g(row, i) * z(row, i); });
      if (!dx.defined()) return;
      const S average = training ? sum_dy[c] / count : S(0), along = training ? sum_dy_z[c] / count : S(0);
      for (int64_t row = c; row < x.size(0) * channels; row += channels) {
        for (int64_t i = 0; i < x.size(2); i += lane_count<S>) {
          row_of<X>(dx, row).store(i, factor * scale[c] * (g(row, i) - average - z(row, i) * along));
        }
      }
    });
    sum_slots(sum_dy_z, 1, channels, channels, dweight);
    sum_slots(sum_dy, 1, channels, channels, dbias);
  });
}

void move_average(ConstView running, ConstView batch, double momentum, double scale, View moved) {
  visit_float(running.dtype(), [&]<class S>() {
    for (int64_t c = 0; c < moved.numel(); ++c) {
      moved.data<S>()[c] = convert<S>((1 - momentum) * static_cast<double>(running.data<S>()[c]) +
                                      momentum * scale * static_cast<double>(batch.data<S>()[c]));
    }
  });
}

const Registered registered_layer_norm(DeviceType::cpu, kernels::layer_norm, layer_norm);
const Registered registered_layer_norm_grad(DeviceType::cpu, kernels::layer_norm_grad, layer_norm_grad);
const Registered registered_batch_norm_stats(DeviceType::cpu, kernels::batch_norm_stats, batch_norm_stats);
const Registered registered_batch_norm(DeviceType::cpu, kernels::batch_norm, batch_norm);
const Registered registered_batch_norm_grad(DeviceType::cpu, kernels::batch_norm_grad, batch_norm_grad);
const Registered registered_move_average(DeviceType::cpu, kernels::move_average, move_average);

}  // namespace
}  // namespace mahia::cpu
