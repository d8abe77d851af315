// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/tensor.hpp"

namespace mahia {

// Views: the result shares x's memory; only contiguous() and reshape() may copy. Axes may be negative.
// Throw ShapeError for sizes that do not fit, IndexError for an axis or index out of range.
Tensor contiguous(const Tensor& x);            // x itself when it is contiguous
Tensor reshape(const Tensor& x, Shape shape);  // one dim may be -1; a view when strides allow, else a copy
Tensor flatten(const Tensor& x, int64_t first = 0, int64_t last = -1);
Tensor permute(const Tensor& x, const Shape& axes);       // y[.., i_k, ..] with axis k of y = axis axes[k] of x
Tensor transpose(const Tensor& x, int64_t a, int64_t b);  // view with two axes swapped
Tensor unsqueeze(const Tensor& x, int64_t axis);          // view with a new axis of size 1
Tensor squeeze(const Tensor& x, int64_t axis);            // view without an axis of size 1
Tensor expand(const Tensor& x, const Shape& shape);       // view with stride 0 along broadcast axes; -1 keeps a dim
Tensor narrow(const Tensor& x, int64_t axis, int64_t start, int64_t length);  // view of [start, start + length)
Tensor select(const Tensor& x, int64_t axis, int64_t index);                  // view without `axis`
Tensors split(const Tensor& x, int64_t size, int64_t axis = 0);  // views of `size`, the last may be shorter
Tensors split(const Tensor& x, const std::vector<int64_t>& sizes, int64_t axis = 0);
Tensors chunk(const Tensor& x, int64_t chunks, int64_t axis = 0);  // as PyTorch: ceil(n / chunks) each, so maybe fewer

}  // namespace mahia
