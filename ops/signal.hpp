// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <initializer_list>

#include "../core/tensor.hpp"

namespace mahia {

// What ops over signals (B, C, T) share. Their kernels take any order of batch and channel in memory and want
// neighbours in time side by side.

// x if that holds, else a contiguous copy; undefined stays undefined.
Tensor time_contiguous(const Tensor& x);

// An uninitialised signal of x's batch, channels, dtype and device with `time` elements, in memory (C, B, T) where x
// is.
Tensor empty_signal(const Tensor& x, int64_t time);

// A filter, contiguous and in the dtype that signals of `dtype` are computed in, without history.
Tensor widened_filter(const Tensor& filter, DType dtype);

// Throws DTypeError unless the filter has the signal's dtype, or is f32 beside bf16. Undefined is allowed.
void check_filter_dtype(const char* op, const Tensor& signal, const Tensor& filter);

// For cost functions: the bytes of the views that are there, each moved once, and the operations of `count` complex
// transforms of length n at 5 n log2 n.
double bytes_of(std::initializer_list<const ConstView*> views);
double fft_flops(int64_t count, int64_t n);

}  // namespace mahia
