// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>

#include "kernel.hpp"
#include "random.hpp"
#include "tensor.hpp"

namespace mahia {

// Copies without history: what loaders, optimizers and the engine need. The differentiable forms are in ops/.
Tensor copy_to(const Tensor& x, Device device, DType dtype);  // contiguous; may share x's storage when nothing changes
Tensor clone(const Tensor& x);                                // contiguous, always its own memory
// Writes x (any strides, dtype, device) over y in place and moves y's version; shapes must agree. For code that never
// records (loaders, optimizers, engine); programs use copy_into of autograd/grad_mode.hpp, which checks that.
void overwrite(const Tensor& x, const Tensor& y);
// The same for what a training step changes besides the optimizer's tensors, on one device: on a GPU nothing is written
// once one of its kernels has found a fault, so that all stays as it was before the bad step.
void commit(const Tensor& x, const Tensor& y);
void fill(const Tensor& y, double value);
int64_t count_nonfinite(const Tensor& x);  // waits for the device

namespace kernels {
inline constinit Kernel<void(ConstView, View)> copy{"copy"};          // any strides and dtypes, equal shapes
inline constinit Kernel<void(ConstView, View)> commit{"commit"};      // copy of contiguous equals, unless at fault
inline constinit Kernel<void(View, double)> fill{"fill"};             // any strides
inline constinit Kernel<void(ConstView, View)> add_into{"add_into"};  // y += x, any strides, any floating dtypes
// y[i] = element i of the uniform (false) or normal (true) stream; y contiguous and floating.
inline constinit Kernel<void(View, RandomCall, bool)> random_fill{"random_fill"};
// count (i64, one element) = how many values of x (floating, contiguous) are infinite or NaN.
inline constinit Kernel<void(ConstView, View)> count_nonfinite{"count_nonfinite"};
// Throws ValueError, beginning with `what` and the position, unless all of x (floating, contiguous) is finite. A GPU
// does so at the host's next wait.
inline constinit Kernel<void(ConstView x, const char* what)> check_finite{"check_finite"};
// y (contiguous, at most 64 bytes) = the first of `bytes`, which travel to a GPU inside the call: cheaper than a copy.
using FewBytes = std::array<std::byte, 64>;
inline constinit Kernel<void(View y, FewBytes bytes)> set_bytes{"set_bytes"};
}  // namespace kernels

}  // namespace mahia
