// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"

namespace mahia {

// Elementwise comparisons with a bool result. Shapes broadcast, dtypes promote, numbers take the tensor's dtype, as in
// arithmetic. Throw ShapeError for shapes that do not broadcast, DTypeError for f16.
Tensor eq(const Tensor& a, const Tensor& b);
Tensor ne(const Tensor& a, const Tensor& b);
Tensor lt(const Tensor& a, const Tensor& b);
Tensor le(const Tensor& a, const Tensor& b);
Tensor gt(const Tensor& a, const Tensor& b);
Tensor ge(const Tensor& a, const Tensor& b);
Tensor eq(const Tensor& a, double b);
Tensor ne(const Tensor& a, double b);
Tensor lt(const Tensor& a, double b);
Tensor le(const Tensor& a, double b);
Tensor gt(const Tensor& a, double b);
Tensor ge(const Tensor& a, double b);

// a where `condition` (bool) holds, else b; the three shapes broadcast, a and b promote.
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);

namespace kernels {
// y (bool) = a op b: any strides, equal shapes, equal dtypes of a and b. `number` stands for an undefined operand.
using Compare = Kernel<void(ConstView a, ConstView b, View y, double number)>;
inline constinit Compare eq{"eq"};
inline constinit Compare ne{"ne"};
inline constinit Compare lt{"lt"};
inline constinit Compare le{"le"};
inline constinit Compare gt{"gt"};
inline constinit Compare ge{"ge"};
inline constinit Kernel<void(ConstView condition, ConstView a, ConstView b, View y)> where{"where"};
}  // namespace kernels

}  // namespace mahia
