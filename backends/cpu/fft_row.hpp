// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "backends/cpu/fft_lanes.hpp"
#include "core/dtype.hpp"

namespace mahia::cpu {

// `length` numbers of storage type S (const where only read) in vectors of the type they are computed in. What lies
// behind the end reads as zero and is not written. May be absent.
template <class S>
class Row {
 public:
  using T = compute_t<std::remove_const_t<S>>;
  static constexpr int width = lane_count<T>;

  Row() = default;
  Row(S* data, int64_t length) : data_(data), length_(length) {}

  explicit operator bool() const { return data_ != nullptr; }

  // Elements [t, t + width).
  Vec<T> load(int64_t t) const {
    if constexpr (std::is_same_v<std::remove_const_t<S>, T>) {
      if (t + width <= length_) return Lanes<T>::load(data_ + t);
    }
    T lanes[width] = {};
    const int64_t n = std::min<int64_t>(width, length_ - t);
    if (n == width) {
      for (int i = 0; i < width; ++i) lanes[i] = static_cast<T>(data_[t + i]);
    } else {
      for (int i = 0; i < n; ++i) lanes[i] = static_cast<T>(data_[t + i]);
    }
    return Lanes<T>::load(lanes);
  }

  void store(int64_t t, Vec<T> value) const {
    if constexpr (std::is_same_v<S, T>) {
      if (t + width <= length_) return Lanes<T>::store(data_ + t, value);
    }
    T lanes[width];
    Lanes<T>::store(lanes, value);
    const int64_t n = std::min<int64_t>(width, length_ - t);
    if (n == width) {
      for (int i = 0; i < width; ++i) data_[t + i] = static_cast<S>(lanes[i]);
    } else {
      for (int i = 0; i < n; ++i) data_[t + i] = static_cast<S>(lanes[i]);
    }
  }

  // Asks for elements [t, t + n), which will be read or written soon. Rows of a few pages begin cold each time: the
  // processor's own prefetcher stops at the end of a page.
  void expect(int64_t t, int64_t n) const {
    constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(S));
    const int64_t end = data_ == nullptr ? 0 : std::min(t + n, length_);
    for (; t < end; t += line) __builtin_prefetch(data_ + t, std::is_const_v<S> ? 0 : 1, 2);
  }

 private:
  S* data_ = nullptr;
  int64_t length_ = 0;
};

}  // namespace mahia::cpu
