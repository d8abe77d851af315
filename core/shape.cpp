// SPDX-License-Identifier: Apache-2.0
#include "core/shape.hpp"

#include <algorithm>

namespace mahia {

void Shape::insert(int axis, int64_t d) {
  push_back(0);
  for (int i = rank_ - 1; i > axis; --i) (*this)[i] = (*this)[i - 1];
  (*this)[axis] = d;
}

void Shape::erase(int axis) {
  for (int i = axis; i + 1 < rank_; ++i) (*this)[i] = (*this)[i + 1];
  --rank_;
}

int64_t numel(const Shape& shape) {
  int64_t n = 1;
  bool zero = false;
  for (const int64_t d : shape) {
    check<ShapeError>(d >= 0, "shape: negative dimension in ", shape);
    zero = zero || d == 0;
    if (d != 0) check<ShapeError>(!__builtin_mul_overflow(n, d, &n), "shape: more than 2^63 elements in ", shape);
  }
  return zero ? 0 : n;
}

Shape contiguous_strides(const Shape& shape) {
  Shape strides = shape;
  int64_t step = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides[i] = step;
    step *= std::max<int64_t>(shape[i], 1);
  }
  return strides;
}

bool is_contiguous(const Shape& shape, const Shape& strides) {
  int64_t step = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    if (shape[i] == 0) return true;
  }
  for (int i = shape.rank() - 1; i >= 0; --i) {
    if (shape[i] != 1 && strides[i] != step) return false;
    step *= shape[i];
  }
  return true;
}

Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b) {
  Shape out = a.rank() >= b.rank() ? a : b;
  const Shape& shorter = a.rank() >= b.rank() ? b : a;
  const int offset = out.rank() - shorter.rank();
  for (int i = 0; i < shorter.rank(); ++i) {
    const int64_t x = out[i + offset], y = shorter[i];
    check<ShapeError>(x == y || x == 1 || y == 1, op, ": shapes ", a, " and ", b, " do not broadcast: ", x, " against ",
                      y, " on axis ", i + offset);
    out[i + offset] = x == 1 ? y : x;
  }
  return out;
}

int normalize_axis(const char* op, int64_t axis, int rank) {
  check<IndexError>(axis >= -rank && axis < rank, op, ": axis ", axis, " is out of range for a tensor of ", rank,
                    " axes");
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

void describe(std::string& out, const Shape& shape) {
  out += '[';
  for (int i = 0; i < shape.rank(); ++i) {
    if (i) out += ", ";
    out += std::to_string(shape[i]);
  }
  out += ']';
}

}  // namespace mahia
