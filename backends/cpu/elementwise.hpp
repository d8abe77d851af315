// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>

#include "core/parallel.hpp"
#include "core/view.hpp"

namespace mahia::cpu {

// Elements per task of a pointwise kernel: the work of a few microseconds, in the first-level cache.
inline constexpr int64_t elementwise_tile = 16384;

// Views of one common shape walked together, after merging axes that are adjacent in all of them.
template <size_t N>
class Walk {
 public:
  explicit Walk(const std::array<const ConstView*, N>& views) {
    for (size_t k = 0; k < N; ++k) {
      data_[k] = const_cast<std::byte*>(static_cast<const std::byte*>(views[k]->raw()));
      item_[k] = static_cast<int64_t>(size_of(views[k]->dtype()));
    }
    const Shape& shape = views[0]->shape();
    for (int axis = 0; axis < shape.rank(); ++axis) {
      total_ *= shape[axis];
      if (shape[axis] != 1) append(shape[axis], views, axis);
    }
    if (rank_ == 0) {
      dims_[0] = 1;
      rank_ = 1;
    }
  }

  // Calls body(pointers, strides in elements, n) for runs along the innermost axis that together cover the views once.
  template <class Body>
  void run(Body&& body) const {
    if (total_ == 0) return;
    const auto last = static_cast<size_t>(rank_ - 1);
    const int64_t inner = dims_[last];
    if (total_ <= elementwise_tile && rank_ == 1) {
      body(data_, strides_[last], inner);
      return;
    }
    const int64_t run_length = std::min(inner, elementwise_tile);
    const int64_t runs_per_row = (inner + run_length - 1) / run_length;
    const int64_t runs = total_ / inner * runs_per_row;
    const int64_t runs_per_task = std::max<int64_t>(1, elementwise_tile / run_length);
    parallel_rows(runs, runs_per_task, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t start = i % runs_per_row * run_length;
        body(pointers_at(i / runs_per_row, start), strides_[last], std::min(run_length, inner - start));
      }
    });
  }

 private:
  using Pointers = std::array<std::byte*, N>;
  using Strides = std::array<int64_t, N>;

  void append(int64_t size, const std::array<const ConstView*, N>& views, int axis) {
    bool merges = rank_ > 0;
    Strides strides;
    for (size_t k = 0; k < N; ++k) {
      strides[k] = views[k]->strides()[axis];
      if (merges) merges = strides_[static_cast<size_t>(rank_ - 1)][k] == strides[k] * size;
    }
    const auto at = static_cast<size_t>(merges ? rank_ - 1 : rank_++);
    dims_[at] = merges ? dims_[at] * size : size;
    strides_[at] = strides;
  }

  Pointers pointers_at(int64_t row, int64_t start) const {
    Pointers p = data_;
    for (int axis = rank_ - 2; axis >= 0; --axis) {
      const auto a = static_cast<size_t>(axis);
      const int64_t index = row % dims_[a];
      row /= dims_[a];
      for (size_t k = 0; k < N; ++k) p[k] += index * strides_[a][k] * item_[k];
    }
    const auto last = static_cast<size_t>(rank_ - 1);
    for (size_t k = 0; k < N; ++k) p[k] += start * strides_[last][k] * item_[k];
    return p;
  }

  Pointers data_;
  std::array<int64_t, N> item_;
  std::array<int64_t, max_rank> dims_{};
  std::array<Strides, max_rank> strides_{};
  int64_t total_ = 1;
  int rank_ = 0;
};

// Conversions as C++ does them, through f32 for the 16-bit types; anything nonzero is true.
template <class To, class From>
inline To convert(From x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else if constexpr (std::is_same_v<To, bool>) {
    if constexpr (std::is_arithmetic_v<From>) {
      return x != From{};
    } else {
      return static_cast<float>(x) != 0.0f;
    }
  } else if constexpr (std::is_arithmetic_v<From> && std::is_arithmetic_v<To>) {
    return static_cast<To>(x);
  } else if constexpr (std::is_arithmetic_v<From>) {
    return To(static_cast<float>(x));
  } else if constexpr (std::is_arithmetic_v<To>) {
    return static_cast<To>(static_cast<float>(x));
  } else {
    return To(static_cast<float>(x));
  }
}

}  // namespace mahia::cpu
