// SPDX-License-Identifier: Apache-2.0
#include "core/dtype.hpp"

#include <array>
#include <cmath>

namespace mahia {
namespace {

constexpr std::array<std::string_view, dtype_count> names = {"f64", "f32", "bf16", "f16", "i64", "i32", "u8", "bool"};

}  // namespace

std::string_view name_of(DType dtype) { return names[static_cast<size_t>(dtype)]; }
bool is_floating_point(DType dtype) { return dtype <= DType::f16; }
bool is_integer(DType dtype) { return dtype == DType::i64 || dtype == DType::i32 || dtype == DType::u8; }

DType promote(DType a, DType b) {
  if (a == b) return a;
  if (is_floating_point(a) != is_floating_point(b)) return is_floating_point(a) ? a : b;
  if (is_floating_point(a)) {
    const bool halves = size_of(a) == 2 && size_of(b) == 2;
    return halves ? DType::f32 : (size_of(a) > size_of(b) ? a : b);
  }
  if (a == DType::boolean) return b;
  if (b == DType::boolean) return a;
  return size_of(a) > size_of(b) ? a : b;
}

float16::float16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  const auto sign = static_cast<uint16_t>((u >> 16) & 0x8000u);
  const float magnitude = std::fabs(x);
  if (std::isnan(x)) {
    bits = static_cast<uint16_t>(sign | 0x7e00u);
  } else if (magnitude >= 65520.0f) {
    bits = static_cast<uint16_t>(sign | 0x7c00u);
  } else if (magnitude < 0x1p-14f) {  // subnormal: a multiple of 2^-24, rounded to nearest even
    bits = static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(magnitude * 0x1p24f)));
  } else {
    const uint32_t m = u & 0x7fffffffu;
    bits = static_cast<uint16_t>(sign | ((m - 0x38000000u + 0xfffu + ((m >> 13) & 1u)) >> 13));
  }
}

float16::operator float() const {
  const int exponent = (bits >> 10) & 0x1f;
  const int mantissa = bits & 0x3ff;
  float magnitude = 0;
  if (exponent == 0x1f) {
    magnitude = mantissa ? std::nanf("") : INFINITY;
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(mantissa), -24);
  } else {
    magnitude = std::ldexp(static_cast<float>(mantissa + 0x400), exponent - 25);
  }
  return bits & 0x8000 ? -magnitude : magnitude;
}

}  // namespace mahia
