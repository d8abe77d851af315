// SPDX-License-Identifier: Apache-2.0
#include "ops/softmax.hpp"

#include <cmath>

#include "backends/cpu/exp.hpp"
#include "backends/cpu/rows.hpp"
#include "core/scratch.hpp"

namespace mahia::cpu {
namespace {

void softmax(ConstView x, View y) {
  visit_float(x.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    for_rows(x, [&](int64_t row) {
      const Row<const X> from = row_of<X>(x, row);
      const Row<X> to = row_of<X>(y, row);
      const int64_t n = from.length();
      const Scratch scratch(cpu_device, static_cast<size_t>(n) * sizeof(S));
      const Row<S> power(scratch.data<S>(), n);
      const S top = max_row(from);
      const S total = sum_row<S>(n, [&](int64_t i) {
        const Vec<S> e = exp(from.load(i) - top);
        power.store(i, e);
        return e;
      });
      for (int64_t i = 0; i < n; i += lane_count<S>) to.store(i, power.load(i) / total);
    });
  });
}

void log_softmax(ConstView x, View y) {
  visit_float(x.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    for_rows(x, [&](int64_t row) {
      const Row<const X> from = row_of<X>(x, row);
      const Row<X> to = row_of<X>(y, row);
      const int64_t n = from.length();
      const S top = max_row(from);
      const S shift = std::log(sum_row<S>(n, [&](int64_t i) { return exp(from.load(i) - top); }));
      for (int64_t i = 0; i < n; i += lane_count<S>) to.store(i, from.load(i) - top - shift);
    });
  });
}

// dx = y * (dy - sum(y * dy))
void softmax_grad(ConstView y, ConstView dy, View dx) {
  visit_float(y.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    for_rows(y, [&](int64_t row) {
      const Row<const X> value = row_of<X>(y, row), grad = row_of<X>(dy, row);
      const Row<X> to = row_of<X>(dx, row);
      const int64_t n = value.length();
      const S dot = sum_row<S>(n, [&](int64_t i) { return value.load(i) * grad.load(i); });
      for (int64_t i = 0; i < n; i += lane_count<S>) to.store(i, value.load(i) * (grad.load(i) - dot));
    });
  });
}

// dx = dy - exp(y) * sum(dy)
void log_softmax_grad(ConstView y, ConstView dy, View dx) {
  visit_float(y.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    for_rows(y, [&](int64_t row) {
      const Row<const X> value = row_of<X>(y, row), grad = row_of<X>(dy, row);
      const Row<X> to = row_of<X>(dx, row);
      const int64_t n = value.length();
      const S total = sum_row<S>(n, [&](int64_t i) { return grad.load(i); });
      for (int64_t i = 0; i < n; i += lane_count<S>) to.store(i, grad.load(i) - exp(value.load(i)) * total);
    });
  });
}

const Registered registered_softmax(DeviceType::cpu, kernels::softmax, softmax);
const Registered registered_softmax_grad(DeviceType::cpu, kernels::softmax_grad, softmax_grad);
const Registered registered_log_softmax(DeviceType::cpu, kernels::log_softmax, log_softmax);
const Registered registered_log_softmax_grad(DeviceType::cpu, kernels::log_softmax_grad, log_softmax_grad);

}  // namespace
}  // namespace mahia::cpu
