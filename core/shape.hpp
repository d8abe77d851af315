// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "error.hpp"

namespace mahia {

inline constexpr int max_rank = 8;

// Up to eight numbers held in place: a shape, strides, or a list of axes.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const int64_t> dims) {
    for (const int64_t d : dims) push_back(d);
  }

  int rank() const { return rank_; }
  size_t size() const { return static_cast<size_t>(rank_); }
  bool empty() const { return rank_ == 0; }
  int64_t operator[](int axis) const { return dims_[static_cast<size_t>(axis)]; }
  int64_t& operator[](int axis) { return dims_[static_cast<size_t>(axis)]; }
  int64_t back() const { return (*this)[rank_ - 1]; }
  const int64_t* begin() const { return dims_.data(); }
  const int64_t* end() const { return dims_.data() + rank_; }

  void push_back(int64_t d) {
    check<ShapeError>(rank_ < max_rank, "shape: more than ", max_rank, " axes");
    dims_[static_cast<size_t>(rank_++)] = d;
  }
  void insert(int axis, int64_t d);
  void erase(int axis);

  friend bool operator==(const Shape& a, const Shape& b) {
    if (a.rank_ != b.rank_) return false;
    for (int i = 0; i < a.rank_; ++i) {
      if (a[i] != b[i]) return false;
    }
    return true;
  }

 private:
  std::array<int64_t, max_rank> dims_{};
  int32_t rank_ = 0;
};

// Product of the dims, 1 for a scalar; throws ShapeError for a negative dim or when it exceeds 63 bits.
int64_t numel(const Shape& shape);
// Row-major strides, in elements.
Shape contiguous_strides(const Shape& shape);
bool is_contiguous(const Shape& shape, const Shape& strides);
// PyTorch's broadcasting rule; throws ShapeError naming `op` and both shapes.
Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b);
// Maps an axis in [-rank, rank) to [0, rank); throws IndexError naming `op`.
int normalize_axis(const char* op, int64_t axis, int rank);

void describe(std::string& out, const Shape& shape);  // "[2, 3]"

}  // namespace mahia
