// SPDX-License-Identifier: Apache-2.0
#include "ops/cumsum.hpp"

#include <algorithm>

#include "backends/cpu/elementwise.hpp"

namespace mahia::cpu {
namespace {

constexpr int64_t strip = 64;  // columns that one task carries along the axis

// i64 adds in an unsigned type, where overflow is defined.
template <class T>
using total_t = std::conditional_t<std::is_integral_v<T>, uint64_t, compute_t<T>>;

template <class T>
void cumsum_of(const T* x, T* y, int64_t outer, int64_t n, int64_t inner, bool reversed) {
  const int64_t strips = (inner + strip - 1) / strip;
  const int64_t work = n * std::min(strip, inner);
  parallel_rows(outer * strips, std::max<int64_t>(1, elementwise_tile / work), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t column = i % strips * strip, width = std::min(strip, inner - column);
      const int64_t base = i / strips * n * inner + column;
      total_t<T> total[strip] = {};
      for (int64_t step = 0; step < n; ++step) {
        const int64_t row = base + (reversed ? n - 1 - step : step) * inner;
        for (int64_t c = 0; c < width; ++c) {
          total[c] += convert<total_t<T>>(x[row + c]);
          y[row + c] = convert<T>(total[c]);
        }
      }
    }
  });
}

void cumsum(ConstView x, View y, bool reversed) {
  const auto run = [&]<class T>() { cumsum_of(x.data<T>(), y.data<T>(), x.size(0), x.size(1), x.size(2), reversed); };
  if (x.dtype() == DType::i64) {
    run.template operator()<int64_t>();
  } else {
    visit_float(x.dtype(), run);
  }
}

const Registered registered_cumsum(DeviceType::cpu, kernels::cumsum, cumsum);

}  // namespace
}  // namespace mahia::cpu
