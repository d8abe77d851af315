// SPDX-License-Identifier: Apache-2.0
#include "ops/signal.hpp"

#include <cmath>

#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/shape.hpp"

namespace mahia {

Tensor time_contiguous(const Tensor& x) { return !x || x.strides()[2] == 1 || x.size(2) <= 1 ? x : contiguous(x); }

Tensor empty_signal(const Tensor& x, int64_t time) {
  const int64_t batch = x.size(0), channels = x.size(1);
  if (x.strides()[0] >= x.strides()[1]) return empty({batch, channels, time}, x.dtype(), x.device());
  const Tensor y = empty({channels, batch, time}, x.dtype(), x.device());
  return {y.storage(), {batch, channels, time}, {time, batch * time, 1}, 0, y.dtype()};
}

Tensor widened_filter(const Tensor& filter, DType dtype) {
  return filter ? copy_to(filter, filter.device(), dtype == DType::bf16 ? DType::f32 : dtype) : filter;
}

void check_filter_dtype(const char* op, const Tensor& signal, const Tensor& filter) {
  const bool fits =
      !filter || filter.dtype() == signal.dtype() || (filter.dtype() == DType::f32 && signal.dtype() == DType::bf16);
  check<DTypeError>(fits, op, ": a filter has the signal's dtype, or f32 beside bf16: signal ", signal, ", filter ",
                    filter);
}

double bytes_of(std::initializer_list<const ConstView*> views) {
  double bytes = 0;
  for (const ConstView* view : views) {
    if (view->defined()) bytes += static_cast<double>(view->numel()) * static_cast<double>(size_of(view->dtype()));
  }
  return bytes;
}

double fft_flops(int64_t count, int64_t n) {
  return 5 * static_cast<double>(count) * static_cast<double>(n) * std::log2(static_cast<double>(n));
}

}  // namespace mahia
