// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace mahia {

// The family of everything mahia throws. The message reads: `op: what is wrong: every operand as f32 [8, 64] cpu:0`.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct ShapeError : Error {
  using Error::Error;
};
struct DTypeError : Error {
  using Error::Error;
};
struct DeviceError : Error {
  using Error::Error;
};
struct IndexError : Error {
  using Error::Error;
};
struct ValueError : Error {
  using Error::Error;
};
struct IoError : Error {
  using Error::Error;
};
struct MissingKernel : Error {
  using Error::Error;
};
struct CaptureError : Error {
  using Error::Error;
};
struct OutOfMemoryError : Error {
  using Error::Error;
};

// One line on standard error, behind "mahia: warning: ".
void warn(std::string_view text);

// How one part of a message is written; tensors, shapes, dtypes and devices add overloads beside their types.
void describe(std::string& out, std::string_view part);
void describe(std::string& out, int64_t part);
void describe(std::string& out, double part);
inline void describe(std::string& out, const char* part) { describe(out, std::string_view(part)); }
inline void describe(std::string& out, bool part) { describe(out, part ? "true" : "false"); }

template <class P>
void append_part(std::string& out, const P& part) {
  if constexpr (std::is_integral_v<P> && !std::is_same_v<P, bool>) {
    describe(out, static_cast<int64_t>(part));
  } else if constexpr (std::is_floating_point_v<P>) {
    describe(out, static_cast<double>(part));
  } else {
    describe(out, part);
  }
}

// The parts of a message joined as text.
template <class... Parts>
std::string message(const Parts&... parts) {
  std::string text;
  (append_part(text, parts), ...);
  return text;
}

template <class E, class... Parts>
[[noreturn]] __attribute__((cold, noinline)) void fail(const Parts&... parts) {
  throw E(message(parts...));
}

// Throws E with the joined parts unless ok. Parts are turned into text only when it throws.
template <class E, class... Parts>
inline void check(bool ok, const Parts&... parts) {
  if (!ok) [[unlikely]]
    fail<E>(parts...);
}

}  // namespace mahia
