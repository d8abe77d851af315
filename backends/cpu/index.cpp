// SPDX-License-Identifier: Apache-2.0
#include "ops/index.hpp"

#include <algorithm>
#include <cstring>

#include "backends/cpu/elementwise.hpp"
#include "core/scratch.hpp"

namespace mahia::cpu {
namespace {

void check_index(ConstView index, const char* op, int64_t size) {
  visit_index(index.dtype(), [&]<class I>() {
    const I* ids = index.data<I>();
    for (int64_t i = 0, n = index.numel(); i < n; ++i) {
      check<IndexError>(ids[i] >= 0 && ids[i] < size, op, ": index ", static_cast<int64_t>(ids[i]), " at position ", i,
                        " is outside [0, ", size, "): index ", index);
    }
  });
}

int64_t rows_per_task(int64_t inner) { return std::max<int64_t>(1, elementwise_tile / std::max<int64_t>(1, inner)); }

// Whole rows of `inner` elements are copied; the dtype does not matter.
void index_select(ConstView x, ConstView index, View y) {
  const int64_t n = x.size(1), k = y.size(1), inner = x.size(2);
  const size_t bytes = static_cast<size_t>(inner) * size_of(x.dtype());
  const auto* from = static_cast<const std::byte*>(x.raw());
  auto* to = static_cast<std::byte*>(y.raw());
  visit_index(index.dtype(), [&]<class I>() {
    const I* ids = index.data<I>();
    parallel_rows(y.size(0) * k, rows_per_task(inner), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t source = row / k * n + static_cast<int64_t>(ids[row % k]);
        std::memcpy(to + static_cast<size_t>(row) * bytes, from + static_cast<size_t>(source) * bytes, bytes);
      }
    });
  });
}

// The positions of each target row, in order: starts (n + 1), positions (k). A counting sort.
template <class I>
void positions_by_row(const I* ids, int64_t k, int64_t n, int64_t* starts, int64_t* positions) {
  std::fill_n(starts, n + 1, int64_t{0});
  for (int64_t i = 0; i < k; ++i) ++starts[ids[i]];
  for (int64_t row = 0, end = 0; row <= n; ++row) starts[row] = end += starts[row];  // where each row ends
  for (int64_t i = k - 1; i >= 0; --i) positions[--starts[ids[i]]] = i;              // and now begins
}

// Each target row is summed by one task, in the order of the positions.
void index_add(ConstView index, ConstView source, View y) {
  const int64_t n = y.size(1), k = source.size(1), inner = y.size(2);
  const Scratch numbers(cpu_device, static_cast<size_t>(n + 1 + k) * sizeof(int64_t));
  int64_t *starts = numbers.data<int64_t>(), *positions = starts + n + 1;
  visit_index(index.dtype(), [&]<class I>() { positions_by_row(index.data<I>(), k, n, starts, positions); });
  visit_float(y.dtype(), [&]<class Y>() {
    using S = compute_t<Y>;
    const Y* from = source.data<Y>();
    Y* to = y.data<Y>();
    parallel_rows(y.size(0) * n, rows_per_task(inner), [&](int64_t begin, int64_t end) {
      const Scratch scratch(cpu_device, static_cast<size_t>(inner) * sizeof(S));
      S* total = scratch.data<S>();
      for (int64_t row = begin; row < end; ++row) {
        const int64_t first = starts[row % n], last = starts[row % n + 1];
        if (first == last) continue;
        for (int64_t c = 0; c < inner; ++c) total[c] = convert<S>(to[row * inner + c]);
        for (int64_t p = first; p < last; ++p) {
          const Y* add = from + (row / n * k + positions[p]) * inner;
          for (int64_t c = 0; c < inner; ++c) total[c] += convert<S>(add[c]);
        }
        for (int64_t c = 0; c < inner; ++c) to[row * inner + c] = convert<Y>(total[c]);
      }
    });
  });
}

void gather(ConstView x, ConstView index, View y) {
  const int64_t n = x.size(1), k = index.size(1), inner = index.size(2);
  visit_number(x.dtype(), [&]<class X>() {
    visit_index(index.dtype(), [&]<class I>() {
      const X* from = x.data<X>();
      const I* ids = index.data<I>();
      X* to = y.data<X>();
      parallel_rows(index.size(0) * k, rows_per_task(inner), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          for (int64_t c = 0; c < inner; ++c) {
            const int64_t at = row * inner + c;
            to[at] = from[(row / k * n + static_cast<int64_t>(ids[at])) * inner + c];
          }
        }
      });
    });
  });
}

// One task owns one outer slice of dx, kept in S meanwhile, and walks its indices in order.
void gather_grad(ConstView index, ConstView dy, View dx) {
  const int64_t n = dx.size(1), k = index.size(1), inner = index.size(2);
  visit_float(dx.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    visit_index(index.dtype(), [&]<class I>() {
      const I* ids = index.data<I>();
      const X* grad = dy.data<X>();
      X* out = dx.data<X>();
      parallel_rows(index.size(0), rows_per_task((k + n) * inner), [&](int64_t begin, int64_t end) {
        const Scratch scratch(cpu_device, static_cast<size_t>(n * inner) * sizeof(S));
        S* total = scratch.data<S>();
        for (int64_t outer = begin; outer < end; ++outer) {
          std::fill_n(total, n * inner, S{0});
          for (int64_t i = 0; i < k * inner; ++i) {
            const int64_t at = outer * k * inner + i;
            total[static_cast<int64_t>(ids[at]) * inner + i % inner] += convert<S>(grad[at]);
          }
          for (int64_t i = 0; i < n * inner; ++i) out[outer * n * inner + i] = convert<X>(total[i]);
        }
      });
    });
  });
}

void bincount(ConstView ids, View counts) {
  int64_t* count = counts.data<int64_t>();
  visit_index(ids.dtype(), [&]<class I>() {
    const I* values = ids.data<I>();
    for (int64_t i = 0, n = ids.numel(); i < n; ++i) ++count[static_cast<int64_t>(values[i])];
  });
}

const Registered registered_check_index(DeviceType::cpu, kernels::check_index, check_index);
const Registered registered_index_select(DeviceType::cpu, kernels::index_select, index_select);
const Registered registered_index_add(DeviceType::cpu, kernels::index_add, index_add);
const Registered registered_gather(DeviceType::cpu, kernels::gather, gather);
const Registered registered_gather_grad(DeviceType::cpu, kernels::gather_grad, gather_grad);
const Registered registered_bincount(DeviceType::cpu, kernels::bincount, bincount);

}  // namespace
}  // namespace mahia::cpu
