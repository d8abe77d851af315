// SPDX-License-Identifier: Apache-2.0
#include "ops/softmax.hpp"

#include <algorithm>
#include <cmath>

#include "backends/cpu/elementwise.hpp"

namespace mahia::cpu {
namespace {

// Calls body(row offset, n) for each row of a contiguous view.
template <class Body>
void for_rows(const ConstView& x, Body&& body) {
  const int64_t n = x.rank() == 0 ? 1 : x.size(-1);
  if (x.numel() == 0) return;
  parallel_rows(x.numel() / n, std::max<int64_t>(1, elementwise_tile / n), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) body(row * n, n);
  });
}

template <class X>
compute_t<X> max_of(const X* x, int64_t n) {
  compute_t<X> top = convert<compute_t<X>>(x[0]);
  for (int64_t i = 1; i < n; ++i) top = std::max(top, convert<compute_t<X>>(x[i]));
  return top;
}

void softmax(ConstView x, View y) {
  visit_float(x.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    const X* from = x.data<X>();
    X* to = y.data<X>();
    for_rows(x, [&](int64_t at, int64_t n) {
      const S top = max_of(from + at, n);
      S total = 0;
      for (int64_t i = at; i < at + n; ++i) total += std::exp(convert<S>(from[i]) - top);
      for (int64_t i = at; i < at + n; ++i) to[i] = convert<X>(std::exp(convert<S>(from[i]) - top) / total);
    });
  });
}

void log_softmax(ConstView x, View y) {
  visit_float(x.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    const X* from = x.data<X>();
    X* to = y.data<X>();
    for_rows(x, [&](int64_t at, int64_t n) {
      const S top = max_of(from + at, n);
      S total = 0;
      for (int64_t i = at; i < at + n; ++i) total += std::exp(convert<S>(from[i]) - top);
      const S shift = top + std::log(total);
      for (int64_t i = at; i < at + n; ++i) to[i] = convert<X>(convert<S>(from[i]) - shift);
    });
  });
}

// dx = y * (dy - sum(y * dy))
void softmax_grad(ConstView y, ConstView dy, View dx) {
  visit_float(y.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    const X *value = y.data<X>(), *grad = dy.data<X>();
    X* out = dx.data<X>();
    for_rows(y, [&](int64_t at, int64_t n) {
      S dot = 0;
      for (int64_t i = at; i < at + n; ++i) dot += convert<S>(value[i]) * convert<S>(grad[i]);
      for (int64_t i = at; i < at + n; ++i) out[i] = convert<X>(convert<S>(value[i]) * (convert<S>(grad[i]) - dot));
    });
  });
}

// dx = dy - exp(y) * sum(dy)
void log_softmax_grad(ConstView y, ConstView dy, View dx) {
  visit_float(y.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    const X *value = y.data<X>(), *grad = dy.data<X>();
    X* out = dx.data<X>();
    for_rows(y, [&](int64_t at, int64_t n) {
      S total = 0;
      for (int64_t i = at; i < at + n; ++i) total += convert<S>(grad[i]);
      for (int64_t i = at; i < at + n; ++i) {
        out[i] = convert<X>(convert<S>(grad[i]) - std::exp(convert<S>(value[i])) * total);
      }
    });
  });
}

const Registered registered_softmax(DeviceType::cpu, kernels::softmax, softmax);
const Registered registered_softmax_grad(DeviceType::cpu, kernels::softmax_grad, softmax_grad);
const Registered registered_log_softmax(DeviceType::cpu, kernels::log_softmax, log_softmax);
const Registered registered_log_softmax_grad(DeviceType::cpu, kernels::log_softmax_grad, log_softmax_grad);

}  // namespace
}  // namespace mahia::cpu
