// SPDX-License-Identifier: Apache-2.0
#include "ops/broadcast.hpp"

#include <cmath>

namespace mahia {
namespace {

// bool < integers < floating
int kind(DType dtype) { return dtype == DType::boolean ? 0 : is_integer(dtype) ? 1 : 2; }

}  // namespace

DType result_dtype(const char* op, const Tensor& a, const Tensor& b) {
  check<DTypeError>(a.dtype() != DType::f16 && b.dtype() != DType::f16, op, ": f16 is for storage only: ", a, ", ", b);
  if (a.dtype() == b.dtype()) return a.dtype();
  const bool a_has_axes = a.rank() > 0, b_has_axes = b.rank() > 0;
  if (kind(a.dtype()) == kind(b.dtype()) && a_has_axes != b_has_axes) return a_has_axes ? a.dtype() : b.dtype();
  return promote(a.dtype(), b.dtype());
}

DType result_dtype(const char* op, const Tensor& a, double b) {
  check<DTypeError>(a.dtype() != DType::f16, op, ": f16 is for storage only: ", a);
  if (is_floating_point(a.dtype())) return a.dtype();
  check<DTypeError>(std::trunc(b) == b, op, ": the number ", b, " is not whole, but the tensor is ", a,
                    "; cast it with to() first");
  return a.dtype() == DType::boolean ? DType::i64 : a.dtype();
}

ConstView broadcast_view(const Tensor& x, const Shape& shape) {
  const ConstView view = x;
  if (view.shape() == shape) return view;
  Shape strides = shape;
  const int lead = shape.rank() - view.rank();
  for (int i = 0; i < shape.rank(); ++i) {
    strides[i] = i < lead || view.size(i - lead) != shape[i] ? 0 : view.stride(i - lead);
  }
  return {view.raw(), shape, strides, view.dtype(), view.device()};
}

}  // namespace mahia
