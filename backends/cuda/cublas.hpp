// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/device.hpp"
#include "core/dtype.hpp"

namespace mahia::cuda {

// One strided batch of products of row-major matrices, through cuBLASLt: c (m, n) = a b, plus c itself when
// `accumulate`, plus a row `bias` (n) when there is one. a is stored (m, k) or, transposed, (k, m); b (k, n) or (n, k).
struct Gemm {
  DType dtype = DType::f32;   // of a and b
  DType result = DType::f32;  // of c and bias: the same, or f32 beside bf16
  int64_t m = 0, n = 0, k = 0, count = 1;
  bool a_transposed = false, b_transposed = false;
  int64_t a_row = 0, b_row = 0, c_row = 0;     // elements from one stored row to the next
  int64_t a_step = 0, b_step = 0, c_step = 0;  // and from one matrix to the next
  bool accumulate = false;
  const void* a = nullptr;
  const void* b = nullptr;
  const void* bias = nullptr;
  void* c = nullptr;
};

// The algorithm is cuBLASLt's first choice for the shape, looked up once; its workspace is fixed, so the same call
// gives the same bits. f32 is true f32 unless TF32 is allowed. Throws DeviceError.
void gemm(Device device, const Gemm& g);

}  // namespace mahia::cuda
