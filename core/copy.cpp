// SPDX-License-Identifier: Apache-2.0
#include "core/copy.hpp"

#include "core/factory.hpp"
#include "core/runtime.hpp"

namespace mahia {
namespace {

Tensor contiguous_with(const Tensor& x, DType dtype) {
  Tensor y = empty(x.shape(), dtype, x.device());
  kernels::copy(x, y.output_view());
  return y;
}

// Between devices: contiguous and of one dtype.
void copy_bytes(const ConstView& x, const View& y) {
  const DeviceType mover = y.device().type == DeviceType::cpu ? x.device().type : y.device().type;
  runtime(mover).copy(y.raw(), y.device(), x.raw(), x.device(), static_cast<size_t>(x.numel()) * size_of(x.dtype()));
}

}  // namespace

Tensor copy_to(const Tensor& x, Device device, DType dtype) {
  const bool here = x.device() == device;
  if (here && x.dtype() == dtype && x.is_contiguous()) return x.detach();
  const Tensor source = x.dtype() == dtype && x.is_contiguous() ? x.detach() : contiguous_with(x, dtype);
  if (here) return source;
  Tensor y = empty(x.shape(), dtype, device);
  copy_bytes(source, y.output_view());
  return y;
}

Tensor clone(const Tensor& x) { return contiguous_with(x, x.dtype()); }

void overwrite(const Tensor& x, const Tensor& y) {
  check<ShapeError>(x.shape() == y.shape(), "overwrite: shapes differ: source ", x, ", target ", y);
  if (x.device() != y.device() && x.dtype() == y.dtype() && x.is_contiguous() && y.is_contiguous())
    return copy_bytes(x, y.mutable_view());
  kernels::copy(x.device() == y.device() ? x : copy_to(x, y.device(), x.dtype()), y.mutable_view());
}

void commit(const Tensor& x, const Tensor& y) {
  check<ShapeError>(x.shape() == y.shape() && y.is_contiguous(), "commit: shapes differ: source ", x, ", target ", y);
  if (y.numel() > 0) kernels::commit(copy_to(x, x.device(), y.dtype()), y.mutable_view());
}

void fill(const Tensor& y, double value) { kernels::fill(y.mutable_view(), value); }

int64_t count_nonfinite(const Tensor& x) {
  const Tensor count = zeros({}, DType::i64, x.device());
  kernels::count_nonfinite(copy_to(x, x.device(), x.dtype()), count.output_view());
  return count.item<int64_t>();
}

}  // namespace mahia
