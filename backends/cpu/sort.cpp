// SPDX-License-Identifier: Apache-2.0
#include "ops/sort.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "backends/cpu/elementwise.hpp"
#include "core/scratch.hpp"

namespace mahia::cpu {
namespace {

// A strict order in which NaN is larger than every number.
template <class S>
bool less(S a, S b) {
  if constexpr (std::is_floating_point_v<S>) {
    if (std::isnan(b)) return !std::isnan(a);
  }
  return a < b;
}

constexpr int64_t selected = 8;  // up to so many of a row are kept in order by insertion instead of sorting the row

template <class S>
void select_largest(const S* x, int64_t n, int64_t* out, int64_t k) {
  int64_t held = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (held == k && !less(x[out[k - 1]], x[i])) continue;
    int64_t at = held < k ? held++ : k - 1;
    for (; at > 0 && less(x[out[at - 1]], x[i]); --at) out[at] = out[at - 1];
    out[at] = i;
  }
}

void sort(ConstView x, View indices, bool descending) {
  const int64_t n = x.size(1), k = indices.size(1);
  visit_number(x.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    const X* from = x.data<X>();
    int64_t* to = indices.data<int64_t>();
    parallel_rows(x.size(0), std::max<int64_t>(1, elementwise_tile / (8 * n)), [&](int64_t begin, int64_t end) {
      const Scratch keys(cpu_device, static_cast<size_t>(n) * sizeof(S));
      const Scratch order(cpu_device, static_cast<size_t>(n) * sizeof(int64_t));
      S* key = keys.data<S>();
      int64_t* place = order.data<int64_t>();
      for (int64_t row = begin; row < end; ++row) {
        for (int64_t i = 0; i < n; ++i) key[i] = convert<S>(from[row * n + i]);
        if (descending && k <= selected) {
          select_largest(key, n, to + row * k, k);
          continue;
        }
        std::iota(place, place + n, int64_t{0});
        std::stable_sort(place, place + n, [&](int64_t a, int64_t b) {
          return descending ? less(key[b], key[a]) : less(key[a], key[b]);
        });
        std::copy_n(place, k, to + row * k);
      }
    });
  });
}

const Registered registered_sort(DeviceType::cpu, kernels::sort, sort);

}  // namespace
}  // namespace mahia::cpu
