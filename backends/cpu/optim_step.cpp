// SPDX-License-Identifier: Apache-2.0
#include "ops/optim_step.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "backends/cpu/elementwise.hpp"
#include "core/scratch.hpp"

namespace mahia::cpu {
namespace {

using kernels::ConstViews;
using kernels::Views;

// A stretch of at most `elementwise_tile` elements of one tensor; the list depends on the shapes alone.
struct Tile {
  size_t tensor;
  int64_t begin, end;
};

template <class V>
std::vector<Tile> tiles_of(std::span<const V> views) {
  std::vector<Tile> tiles;
  for (size_t i = 0; i < views.size(); ++i) {
    const int64_t n = views[i].numel();
    for (int64_t at = 0; at < n; at += elementwise_tile) tiles.push_back({i, at, std::min(n, at + elementwise_tile)});
  }
  return tiles;
}

double number(const ConstView& scalar) { return scalar.defined() ? *scalar.data<double>() : 1; }

void write_copy(const View& copy, const auto* values, const Tile& tile) {
  if (!copy.defined()) return;
  visit_float(copy.dtype(), [&]<class Y>() {
    Y* out = copy.data<Y>();
    for (int64_t i = tile.begin; i < tile.end; ++i) out[i] = convert<Y>(values[i]);
  });
}

// 28 bytes per f32 element: master, gradient and both moments read, all but the gradient written.
void adamw_step(Views masters, Views copies, ConstViews grads, Views first, Views second, ConstView lr_view,
                ConstView step_view, ConstView clip_view, AdamWOptions o) {
  const double lr = number(lr_view) * o.lr_scale;
  const double t = number(step_view), clip = number(clip_view);
  const double size = lr / (1 - std::pow(o.beta1, t)), root = std::sqrt(1 - std::pow(o.beta2, t));
  const std::vector<Tile> tiles = tiles_of(masters);
  parallel_rows(static_cast<int64_t>(tiles.size()), 1, [&](int64_t from, int64_t to) {
    for (int64_t k = from; k < to; ++k) {
      const Tile& tile = tiles[static_cast<size_t>(k)];
      visit_float(masters[tile.tensor].dtype(), [&]<class X>() {
        if constexpr (!std::is_same_v<X, bfloat16>) {
          X *x = masters[tile.tensor].data<X>(), *m = first[tile.tensor].data<X>(), *v = second[tile.tensor].data<X>();
          const X* dx = grads[tile.tensor].data<X>();
          const X scale = static_cast<X>(clip), decay = static_cast<X>(1 - lr * o.weight_decay);
          const X take1 = static_cast<X>(1 - o.beta1), keep2 = static_cast<X>(o.beta2),
                  take2 = static_cast<X>(1 - o.beta2);
          const X step = static_cast<X>(-size), unit = static_cast<X>(root), eps = static_cast<X>(o.eps);
          for (int64_t i = tile.begin; i < tile.end; ++i) {
            const X g = dx[i] * scale;
            m[i] = m[i] + take1 * (g - m[i]);
            v[i] = v[i] * keep2 + take2 * g * g;
            x[i] = x[i] * decay + step * (m[i] / (std::sqrt(v[i]) / unit + eps));
          }
          write_copy(copies[tile.tensor], x, tile);
        }
      });
    }
  });
}

template <class X>
void sgd_tile(X* x, const X* dx, X* buffer, const Tile& tile, double lr, double clip, const SgdOptions& o,
              bool started) {
  const X scale = static_cast<X>(clip), decay = static_cast<X>(o.weight_decay), step = static_cast<X>(-lr);
  const X keep = static_cast<X>(started ? o.momentum : 0), take = static_cast<X>(started ? 1 - o.dampening : 1);
  const X momentum = static_cast<X>(o.momentum);
  for (int64_t i = tile.begin; i < tile.end; ++i) {
    X g = dx[i] * scale + decay * x[i];
    if (buffer != nullptr) {
      buffer[i] = (started ? keep * buffer[i] : X{0}) + take * g;
      g = o.nesterov ? g + momentum * buffer[i] : buffer[i];
    }
    x[i] += step * g;
  }
}

void sgd_step(Views masters, Views copies, ConstViews grads, Views buffers, ConstView lr_view, ConstView clip_view,
              SgdOptions o, bool started) {
  const double lr = number(lr_view) * o.lr_scale, clip = number(clip_view);
  const std::vector<Tile> tiles = tiles_of(masters);
  parallel_rows(static_cast<int64_t>(tiles.size()), 1, [&](int64_t from, int64_t to) {
    for (int64_t k = from; k < to; ++k) {
      const Tile& tile = tiles[static_cast<size_t>(k)];
      visit_float(masters[tile.tensor].dtype(), [&]<class X>() {
        if constexpr (!std::is_same_v<X, bfloat16>) {
          X* x = masters[tile.tensor].data<X>();
          X* buffer = o.momentum != 0 ? buffers[tile.tensor].data<X>() : nullptr;
          sgd_tile(x, grads[tile.tensor].data<X>(), buffer, tile, lr, clip, o, started);
          write_copy(copies[tile.tensor], x, tile);
        }
      });
    }
  });
}

// Sums of squares in f64: eight lanes per tile, tiles into indexed slots, slots in order.
void grad_norm(ConstViews grads, View norm) {
  const std::vector<Tile> tiles = tiles_of(grads);
  const Scratch scratch(cpu_device, tiles.size() * sizeof(double));
  double* slots = scratch.data<double>();
  parallel_rows(static_cast<int64_t>(tiles.size()), 1, [&](int64_t from, int64_t to) {
    for (int64_t k = from; k < to; ++k) {
      const Tile& tile = tiles[static_cast<size_t>(k)];
      visit_float(grads[tile.tensor].dtype(), [&]<class X>() {
        constexpr int64_t lanes = 8;
        const X* dx = grads[tile.tensor].data<X>();
        double lane[lanes] = {};
        for (int64_t i = tile.begin; i < tile.end; i += lanes) {
          for (int64_t j = 0; j < std::min(lanes, tile.end - i); ++j) {
            const auto value = static_cast<double>(dx[i + j]);
            lane[j] += value * value;
          }
        }
        slots[k] = ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
      });
    }
  });
  double total = 0;
  for (size_t k = 0; k < tiles.size(); ++k) total += slots[k];
  *norm.data<double>() = std::sqrt(total);
}

void clip_coefficient(ConstView norm, double max_norm, View coefficient) {
  *coefficient.data<double>() = std::min(max_norm / (*norm.data<double>() + 1e-6), 1.0);  // NaN stays
}

const Registered registered_adamw_step(DeviceType::cpu, kernels::adamw_step, adamw_step);
const Registered registered_sgd_step(DeviceType::cpu, kernels::sgd_step, sgd_step);
const Registered registered_grad_norm(DeviceType::cpu, kernels::grad_norm, grad_norm);
const Registered registered_clip_coefficient(DeviceType::cpu, kernels::clip_coefficient, clip_coefficient);

}  // namespace
}  // namespace mahia::cpu
