// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"
#include "compare.hpp"

namespace mahia {

// Elementwise arithmetic of two tensors, or of a tensor and a number. Shapes broadcast and dtypes promote as in
// PyTorch; a number takes the tensor's dtype. Integers divide to f32. Throw ShapeError for shapes that do not
// broadcast, DTypeError for f16, for a fraction beside an integer tensor, and for pow of integers.
Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
Tensor pow(const Tensor& a, const Tensor& b);
Tensor maximum(const Tensor& a, const Tensor& b);  // NaN wins; the gradient of a tie is halved
Tensor minimum(const Tensor& a, const Tensor& b);

Tensor add(const Tensor& a, double b);
Tensor sub(const Tensor& a, double b);
Tensor sub(double a, const Tensor& b);
Tensor mul(const Tensor& a, double b);
Tensor div(const Tensor& a, double b);
Tensor div(double a, const Tensor& b);
Tensor pow(const Tensor& a, double b);

inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
inline Tensor operator+(const Tensor& a, double b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, double b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, double b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, double b) { return div(a, b); }
inline Tensor operator+(double a, const Tensor& b) { return add(b, a); }
inline Tensor operator-(double a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(double a, const Tensor& b) { return mul(b, a); }
inline Tensor operator/(double a, const Tensor& b) { return div(a, b); }
inline Tensor operator-(const Tensor& a) { return mul(a, -1); }

namespace kernels {
// y = a op b: any strides, equal shapes (0 strides broadcast), equal dtypes. `number` stands for an undefined operand.
using Binary = Kernel<void(ConstView a, ConstView b, View y, double number)>;
inline constinit Binary add{"add"};
inline constinit Binary sub{"sub"};
inline constinit Binary mul{"mul"};
inline constinit Binary div{"div"};  // floating
inline constinit Binary pow{"pow"};  // floating
inline constinit Binary maximum{"maximum"};
inline constinit Binary minimum{"minimum"};
}  // namespace kernels

}  // namespace mahia
