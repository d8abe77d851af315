// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "error.hpp"

namespace mahia {

// Element types. f16 exists for storage and files only: no op computes with it.
enum class DType : uint8_t { f64, f32, bf16, f16, i64, i32, u8, boolean };
inline constexpr int dtype_count = 8;

// The upper half of an f32, rounded to nearest even; NaN stays NaN.
struct bfloat16 {
  uint16_t bits = 0;
  bfloat16() = default;
  explicit constexpr bfloat16(float x) : bits(round(std::bit_cast<uint32_t>(x))) {}
  explicit constexpr operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
  explicit constexpr operator double() const { return static_cast<double>(static_cast<float>(*this)); }

 private:
  static constexpr uint16_t round(uint32_t x) {
    if ((x & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((x >> 16) | 0x40u);
    return static_cast<uint16_t>((x + 0x7fffu + ((x >> 16) & 1u)) >> 16);
  }
};

// IEEE half precision, for files.
struct float16 {
  uint16_t bits = 0;
  float16() = default;
  explicit float16(float x);
  explicit operator float() const;
  explicit operator double() const { return static_cast<double>(static_cast<float>(*this)); }
};

inline constexpr size_t dtype_sizes[dtype_count] = {8, 4, 2, 2, 8, 4, 1, 1};
inline size_t size_of(DType dtype) { return dtype_sizes[static_cast<size_t>(dtype)]; }
std::string_view name_of(DType dtype);  // "f32", "bool", ...
bool is_floating_point(DType dtype);
bool is_integer(DType dtype);  // i64, i32, u8
inline void describe(std::string& out, DType dtype) { describe(out, name_of(dtype)); }

// The dtype of `a op b` for two tensors, as PyTorch: the wider kind wins, bf16 with f32 gives f32.
DType promote(DType a, DType b);

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<bfloat16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<float16> {
  static constexpr DType value = DType::f16;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::u8;
};
template <>
struct DTypeOf<bool> {
  static constexpr DType value = DType::boolean;
};
template <class T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

// The type sums and transcendental functions of T are computed in: f32 for bf16, otherwise T.
template <class T>
struct ComputeType {
  using type = T;
};
template <>
struct ComputeType<bfloat16> {
  using type = float;
};
template <class T>
using compute_t = typename ComputeType<T>::type;

// Calls fn.template operator()<T>() with T = double, float or bfloat16.
template <class Fn>
decltype(auto) visit_float(DType dtype, Fn&& fn) {
  switch (dtype) {
    case DType::f64:
      return fn.template operator()<double>();
    case DType::f32:
      return fn.template operator()<float>();
    case DType::bf16:
      return fn.template operator()<bfloat16>();
    default:
      fail<DTypeError>("needs f64, f32 or bf16, got ", dtype);
  }
}

// T = int64_t or int32_t.
template <class Fn>
decltype(auto) visit_index(DType dtype, Fn&& fn) {
  switch (dtype) {
    case DType::i64:
      return fn.template operator()<int64_t>();
    case DType::i32:
      return fn.template operator()<int32_t>();
    default:
      fail<DTypeError>("needs i64 or i32, got ", dtype);
  }
}

// Every type that ops compute with: all but f16.
template <class Fn>
decltype(auto) visit_number(DType dtype, Fn&& fn) {
  switch (dtype) {
    case DType::i64:
      return fn.template operator()<int64_t>();
    case DType::i32:
      return fn.template operator()<int32_t>();
    case DType::u8:
      return fn.template operator()<uint8_t>();
    case DType::boolean:
      return fn.template operator()<bool>();
    default:
      return visit_float(dtype, fn);
  }
}

// Every dtype, f16 included.
template <class Fn>
decltype(auto) visit_any(DType dtype, Fn&& fn) {
  if (dtype == DType::f16) return fn.template operator()<float16>();
  return visit_number(dtype, fn);
}

}  // namespace mahia
