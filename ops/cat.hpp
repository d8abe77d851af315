// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/tensor.hpp"

namespace mahia {

// Ops that build a new tensor out of pieces. Axes may be negative.
// Throw ShapeError when sizes off `axis` differ, DTypeError for mixed dtypes, ValueError for an empty list.
Tensor cat(const Tensors& xs, int64_t axis = 0);
Tensor stack(const Tensors& xs, int64_t axis = 0);  // equal shapes, joined along a new axis
Tensor flip(const Tensor& x, const Shape& axes);    // reversed along each axis; ValueError for one named twice
// Constant padding; `pads` as PyTorch: (left, right) of the last axis, then of the one before, ... Negative pads crop;
// throws ShapeError when they crop more than there is.
Tensor pad(const Tensor& x, const Shape& pads, double value = 0);

}  // namespace mahia
