// SPDX-License-Identifier: Apache-2.0
#include "ops/moe.hpp"

#include <algorithm>
#include <cstring>

#include "backends/cpu/elementwise.hpp"
#include "core/scratch.hpp"

namespace mahia::cpu {
namespace {

// Histogram, scan, stable placement; 12 bytes per pair read or written twice, on one thread.
void moe_plan(ConstView indices, bool whole, View order, View place, View offsets, View counts) {
  const int64_t pairs = indices.numel(), experts = counts.numel(), k = indices.size(1);
  const int64_t* expert = indices.data<int64_t>();
  int64_t* count = counts.data<int64_t>();
  int32_t *first = offsets.data<int32_t>(), *pair_at = order.data<int32_t>(), *place_of = place.data<int32_t>();
  std::fill_n(count, experts, int64_t{0});
  const auto goes_nowhere = [&](int64_t i) { return !whole && expert[i] == no_expert; };
  for (int64_t i = 0; i < pairs; ++i) {
    if (goes_nowhere(i)) continue;
    check<IndexError>(expert[i] >= 0 && expert[i] < experts, "moe_plan: token ", i / std::max<int64_t>(k, 1),
                      ", choice ", i % std::max<int64_t>(k, 1), " names expert ", expert[i], ", outside [0, ", experts,
                      ")");
    ++count[expert[i]];
  }
  first[0] = 0;
  for (int64_t e = 0; e < experts; ++e) first[e + 1] = first[e] + static_cast<int32_t>(count[e]);
  const int64_t rows = order.numel();
  check<ValueError>(first[experts] <= rows, "moe_plan: ", first[experts], " pairs have an expert, more than the ", rows,
                    " rows");
  const Scratch scratch(cpu_device, static_cast<size_t>(experts) * sizeof(int32_t));
  int32_t* next = scratch.data<int32_t>();
  std::copy_n(first, experts, next);
  for (int64_t i = 0; i < pairs; ++i) {
    place_of[i] = goes_nowhere(i) ? -1 : next[expert[i]]++;
    if (place_of[i] >= 0) pair_at[place_of[i]] = static_cast<int32_t>(i);
  }
  std::fill(pair_at + first[experts], pair_at + rows, -1);
  first[experts] = static_cast<int32_t>(rows);
}

int64_t rows_per_task(int64_t width) { return std::max<int64_t>(1, elementwise_tile / std::max<int64_t>(1, width)); }

void moe_dispatch(ConstView x, ConstView order, int64_t k, View y) {
  const int64_t width = x.size(1);
  const size_t bytes = static_cast<size_t>(width) * size_of(x.dtype());
  const auto* from = static_cast<const std::byte*>(x.raw());
  auto* to = static_cast<std::byte*>(y.raw());
  const int32_t* pair_at = order.data<int32_t>();
  parallel_rows(order.numel(), rows_per_task(width), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::byte* row = to + static_cast<size_t>(i) * bytes;
      if (pair_at[i] < 0) {
        std::memset(row, 0, bytes);
      } else {
        std::memcpy(row, from + static_cast<size_t>(pair_at[i] / k) * bytes, bytes);
      }
    }
  });
}

// Weights of any floating type, as f64 or f32 numbers; 1 without weights.
template <class S>
struct Weights {
  const ConstView& view;
  S operator()(int64_t i) const {
    if (!view.defined()) return 1;
    S value = 0;
    visit_float(view.dtype(), [&]<class W>() { value = convert<S>(view.data<W>()[i]); });
    return value;
  }
};

void moe_combine(ConstView rows, ConstView weights, ConstView place, int64_t k, View y) {
  const int64_t width = y.size(1);
  const int32_t* place_of = place.data<int32_t>();
  visit_float(y.dtype(), [&]<class Y>() {
    using S = compute_t<Y>;
    const Y* from = rows.data<Y>();
    Y* to = y.data<Y>();
    const Weights<S> weight{weights};
    parallel_rows(y.size(0), rows_per_task(k * width), [&](int64_t begin, int64_t end) {
      const Scratch scratch(cpu_device, static_cast<size_t>(width) * sizeof(S));
      S* total = scratch.data<S>();
      for (int64_t t = begin; t < end; ++t) {
        std::fill_n(total, width, S{0});
        for (int64_t j = 0; j < k; ++j) {
          if (place_of[t * k + j] < 0) continue;
          const S w = weight(t * k + j);
          const Y* row = from + place_of[t * k + j] * width;
          for (int64_t c = 0; c < width; ++c) total[c] += w * convert<S>(row[c]);
        }
        for (int64_t c = 0; c < width; ++c) to[t * width + c] = convert<Y>(total[c]);
      }
    });
  });
}

// The dot product of two rows: eight lanes, folded in a fixed order.
template <class S, class Y>
S dot(const Y* a, const Y* b, int64_t n) {
  constexpr int lanes = 8;
  S lane[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (int l = 0; l < lanes; ++l) lane[l] += convert<S>(a[i + l]) * convert<S>(b[i + l]);
  }
  for (int l = 0; i < n; ++i, ++l) lane[l] += convert<S>(a[i]) * convert<S>(b[i]);
  return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

void moe_combine_grad(ConstView rows, ConstView weights, ConstView place, ConstView dy, View drows, View dweights) {
  const int64_t width = dy.size(1), k = weights.size(1);
  const int32_t* place_of = place.data<int32_t>();
  visit_float(dy.dtype(), [&]<class Y>() {
    using S = compute_t<Y>;
    const Y *row = rows.data<Y>(), *grad = dy.data<Y>();
    Y* out = drows.defined() ? drows.data<Y>() : nullptr;
    const Weights<S> weight{weights};
    parallel_rows(dy.size(0) * k, rows_per_task(width), [&](int64_t begin, int64_t end) {
      for (int64_t pair = begin; pair < end; ++pair) {
        const Y* g = grad + pair / k * width;
        const int64_t at = place_of[pair] * width;
        if (dweights.defined()) {
          const S value = at < 0 ? S{0} : dot<S>(row + at, g, width);
          visit_float(dweights.dtype(), [&]<class W>() { dweights.data<W>()[pair] = convert<W>(value); });
        }
        if (out == nullptr || at < 0) continue;
        const S w = weight(pair);
        for (int64_t c = 0; c < width; ++c) out[at + c] = convert<Y>(w * convert<S>(g[c]));
      }
    });
  });
}

const Registered registered_moe_plan(DeviceType::cpu, kernels::moe_plan, moe_plan);
const Registered registered_moe_dispatch(DeviceType::cpu, kernels::moe_dispatch, moe_dispatch);
const Registered registered_moe_combine(DeviceType::cpu, kernels::moe_combine, moe_combine);
const Registered registered_moe_combine_grad(DeviceType::cpu, kernels::moe_combine_grad, moe_combine_grad);

}  // namespace
}  // namespace mahia::cpu
