// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <ostream>
#include <type_traits>

#include "core/copy.hpp"
#include "core/tensor.hpp"

namespace mahia {
namespace {

constexpr int64_t edge = 3;        // numbers shown at each end of a long axis
constexpr int64_t whole_axis = 8;  // axes up to this length are shown whole

template <class T>
std::string text_of(T value) {
  char buffer[32];
  if constexpr (std::is_same_v<T, bool>) {
    return value ? "true" : "false";
  } else if constexpr (std::is_integral_v<T>) {
    return std::to_string(value);
  } else {
    std::snprintf(buffer, sizeof buffer, "%.5g", static_cast<double>(value));
    return buffer;
  }
}

template <class T>
void print_axis(std::ostream& out, const T* values, const Shape& shape, int axis, int64_t offset) {
  if (axis == shape.rank()) {
    out << text_of(values[offset]);
    return;
  }
  int64_t inner = 1;
  for (int i = axis + 1; i < shape.rank(); ++i) inner *= shape[i];
  const bool rows = axis + 1 < shape.rank();
  out << '[';
  for (int64_t i = 0; i < shape[axis]; ++i) {
    if (i > 0) out << (rows ? ",\n" + std::string(static_cast<size_t>(axis) + 1, ' ') : ", ");
    if (shape[axis] > whole_axis && i == edge) {
      out << "...";
      i = shape[axis] - edge - 1;
      continue;
    }
    print_axis(out, values, shape, axis + 1, offset + i * inner);
  }
  out << ']';
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Tensor& tensor) {
  if (!tensor.defined()) return out << "tensor(undefined)";
  const Tensor host = copy_to(tensor, cpu_device, tensor.dtype());
  out << "tensor(";
  visit_any(host.dtype(), [&]<class T>() { print_axis(out, ConstView(host).data<T>(), host.shape(), 0, 0); });
  return out << ", " << message(tensor) << ')';
}

}  // namespace mahia
