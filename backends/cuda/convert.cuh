// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <type_traits>

#include "core/dtype.hpp"

namespace mahia::cuda {

template <class T>
inline constexpr bool is_half_width = std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>;

__device__ inline float widen(bfloat16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }
__device__ inline float widen(float16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}
__device__ inline void narrow(bfloat16& y, float x) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); }
__device__ inline void narrow(float16& y, float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); }

// Conversions as C++ does them, through f32 for the 16-bit types; anything nonzero is true.
template <class To, class From>
__device__ inline To convert(From x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else if constexpr (is_half_width<From>) {
    return convert<To>(widen(x));
  } else if constexpr (is_half_width<To>) {
    To y;
    narrow(y, static_cast<float>(x));
    return y;
  } else if constexpr (std::is_same_v<To, bool>) {
    return x != From{};
  } else {
    return static_cast<To>(x);
  }
}

}  // namespace mahia::cuda
