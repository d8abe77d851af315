// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "core/device.hpp"
#include "core/dtype.hpp"

namespace mahia::cuda {

// `count` rows of n real numbers that are transformed in place: a row has room for the n / 2 + 1 complex numbers of its
// spectrum and begins at a multiple of 32 bytes.
struct FftRows {
  Device device;
  DType dtype = DType::f32;  // or f64
  int64_t n = 1;
  int64_t count = 0;

  FftRows with_count(int64_t other) const { return {device, dtype, n, other}; }
  int64_t pitch() const;  // from one row to the next, in real numbers
  size_t bytes() const;
};

// Forward: X[k] = sum_t x[t] exp(-2 pi i k t / n) for k = 0 ... n/2. Inverse: the way back times n; the imaginary parts
// of frequency 0 and, for even n, n/2 must be zero.
enum class FftDirection { forward, inverse };

// Transforms each row of `data`. Plans are kept for later calls. Throws DeviceError; CaptureError when a plan has to be
// made while the device's stream is captured.
void transform(const FftRows& rows, FftDirection direction, void* data);

// How many of the rows can be transformed at once when they and cuFFT's work area may take `limit` bytes; at least 1.
int64_t fitting_count(const FftRows& rows, FftDirection direction, size_t limit);

}  // namespace mahia::cuda
