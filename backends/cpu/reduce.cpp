// SPDX-License-Identifier: Apache-2.0
#include "ops/reduce.hpp"

#include <algorithm>

#include "backends/cpu/elementwise.hpp"
#include "core/scratch.hpp"

namespace mahia::cpu {
namespace {

constexpr int64_t block = 2048;  // elements summed in lanes before the partial sums are added in order
constexpr int lanes = 16;

// The sum of n neighbours: 16 lanes, folded in a fixed order.
template <class S, class X>
S sum_block(const X* x, int64_t n) {
  S lane[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (int k = 0; k < lanes; ++k) lane[k] += convert<S>(x[i + k]);
  }
  for (int k = 0; i < n; ++i, ++k) lane[k] += convert<S>(x[i]);
  for (int width = lanes / 2; width > 0; width /= 2) {
    for (int k = 0; k < width; ++k) lane[k] += lane[k + width];
  }
  return lane[0];
}

// (outer, n) -> (outer): blocks of 2048 into indexed slots, then the slots in order.
template <class X>
void sum_rows(const X* x, X* y, int64_t outer, int64_t n) {
  using S = compute_t<X>;
  const int64_t blocks = std::max<int64_t>(1, (n + block - 1) / block);
  const Scratch partial(cpu_device, static_cast<size_t>(outer * blocks) * sizeof(S));
  S* slots = partial.data<S>();
  parallel_rows(outer * blocks, std::max<int64_t>(1, elementwise_tile / std::max<int64_t>(1, std::min(n, block))),
                [&](int64_t begin, int64_t end) {
                  for (int64_t i = begin; i < end; ++i) {
                    const int64_t start = i % blocks * block;
                    slots[i] = sum_block<S>(x + i / blocks * n + start, std::min(block, n - start));
                  }
                });
  for (int64_t row = 0; row < outer; ++row) y[row] = convert<X>(sum_block<S>(slots + row * blocks, blocks));
}

// (outer, n, inner) -> (outer, inner): each task owns a strip of columns and walks n in order.
template <class X>
void sum_columns(const X* x, X* y, int64_t outer, int64_t n, int64_t inner) {
  using S = compute_t<X>;
  constexpr int64_t strip = 256;
  const int64_t strips = (inner + strip - 1) / strip;
  parallel_rows(outer * strips, std::max<int64_t>(1, elementwise_tile / (strip * std::max<int64_t>(1, n))),
                [&](int64_t begin, int64_t end) {
                  for (int64_t i = begin; i < end; ++i) {
                    const int64_t column = i % strips * strip, width = std::min(strip, inner - column);
                    const X* from = x + i / strips * n * inner + column;
                    S total[strip] = {};
                    for (int64_t row = 0; row < n; ++row) {
                      for (int64_t c = 0; c < width; ++c) total[c] += convert<S>(from[row * inner + c]);
                    }
                    for (int64_t c = 0; c < width; ++c) y[i / strips * inner + column + c] = convert<X>(total[c]);
                  }
                });
}

void sum(ConstView x, View y) {
  visit_float(x.dtype(), [&]<class X>() {
    if (x.size(2) == 1) {
      sum_rows(x.data<X>(), y.data<X>(), x.size(0), x.size(1));
    } else {
      sum_columns(x.data<X>(), y.data<X>(), x.size(0), x.size(1), x.size(2));
    }
  });
}

const Registered registered_sum(DeviceType::cpu, kernels::sum, sum);

}  // namespace
}  // namespace mahia::cpu
