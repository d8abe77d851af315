// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "random.hpp"
#include "tensor.hpp"

namespace mahia {

// New tensors. Shapes are checked: a negative dimension throws ShapeError.
Tensor empty(const Shape& shape, DType dtype = DType::f32, Device device = cpu_device);  // uninitialised
Tensor empty_like(const Tensor& x);  // contiguous, x's shape, dtype, device
Tensor empty_like(const Tensor& x, DType dtype);
Tensor zeros(const Shape& shape, DType dtype = DType::f32, Device device = cpu_device);
Tensor zeros_like(const Tensor& x);
Tensor ones(const Shape& shape, DType dtype = DType::f32, Device device = cpu_device);
Tensor full(const Shape& shape, double value, DType dtype = DType::f32, Device device = cpu_device);
Tensor scalar(double value, DType dtype = DType::f32, Device device = cpu_device);  // shape []
// 0, 1, ..., n - 1.
Tensor arange(int64_t n, DType dtype = DType::i64, Device device = cpu_device);
// `steps` evenly spaced numbers from `first` to `last`, both included.
Tensor linspace(double first, double last, int64_t steps, DType dtype = DType::f32, Device device = cpu_device);

// Random numbers: a pure function of (key, call, step, element index); the same on every device and for any thread
// count. Without a RandomCall the next one of the program's own stream is taken (see manual_seed).
Tensor rand(const Shape& shape, DType dtype = DType::f32, Device device = cpu_device);   // uniform in [0, 1)
Tensor randn(const Shape& shape, DType dtype = DType::f32, Device device = cpu_device);  // standard normal
Tensor rand(const Shape& shape, const RandomCall& call, DType dtype = DType::f32, Device device = cpu_device);
Tensor randn(const Shape& shape, const RandomCall& call, DType dtype = DType::f32, Device device = cpu_device);
Tensor randint(int64_t low, int64_t high, const Shape& shape, DType dtype = DType::i64, Device device = cpu_device);

}  // namespace mahia
