// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/tensor.hpp"

namespace mahia {

// What two-operand ops share: which dtype and shape they compute in.

// The dtype of `a op b`, as PyTorch: the wider kind wins; of one kind, a tensor with axes beats one without.
// Throws DTypeError naming op for f16.
DType result_dtype(const char* op, const Tensor& a, const Tensor& b);
// The dtype of a tensor and a number: the tensor's, but i64 for bool. Throws DTypeError for a fraction beside integers.
DType result_dtype(const char* op, const Tensor& a, double b);
// x seen with `shape`, to which it broadcasts: stride 0 along repeated axes. No history.
ConstView broadcast_view(const Tensor& x, const Shape& shape);

}  // namespace mahia
