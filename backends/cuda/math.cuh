// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

namespace mahia::cuda {

// x y rounded by itself, never inside a fused multiply-add: what was added up as a product cancels against it exactly.
__device__ inline float rounded_product(float x, float y) { return __fmul_rn(x, y); }
__device__ inline double rounded_product(double x, double y) { return __dmul_rn(x, y); }

// The functions that the formulas of backends/common/pointwise.hpp ask for: CUDA's own, which are within 2 units in the
// last place.
struct Math {
  __device__ static float exp(float x) { return ::expf(x); }
  __device__ static float log(float x) { return ::logf(x); }
  __device__ static float log1p(float x) { return ::log1pf(x); }
  __device__ static float tanh(float x) { return ::tanhf(x); }
  __device__ static float sin(float x) { return ::sinf(x); }
  __device__ static float cos(float x) { return ::cosf(x); }
  __device__ static float normal_cdf(float x) { return ::normcdff(x); }
  __device__ static float sqrt(float x) { return ::sqrtf(x); }
  __device__ static float fma(float x, float y, float z) { return ::fmaf(x, y, z); }

  __device__ static double exp(double x) { return ::exp(x); }
  __device__ static double log(double x) { return ::log(x); }
  __device__ static double log1p(double x) { return ::log1p(x); }
  __device__ static double tanh(double x) { return ::tanh(x); }
  __device__ static double sin(double x) { return ::sin(x); }
  __device__ static double cos(double x) { return ::cos(x); }
  __device__ static double normal_cdf(double x) { return ::normcdf(x); }
  __device__ static double sqrt(double x) { return ::sqrt(x); }
  __device__ static double fma(double x, double y, double z) { return ::fma(x, y, z); }
};

}  // namespace mahia::cuda
