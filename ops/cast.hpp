// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/tensor.hpp"

namespace mahia {

// x with another dtype (same shape; x itself when nothing changes). Floating to integer drops the fraction.
// The gradient is cast back.
Tensor to(const Tensor& x, DType dtype);
// x on another device; the gradient is moved back.
Tensor to(const Tensor& x, Device device);

}  // namespace mahia
