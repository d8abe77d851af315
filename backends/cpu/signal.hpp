// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "backends/cpu/fft_lanes.hpp"
#include "core/view.hpp"

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
  S* data() const { return data_; }
  int64_t length() const { return length_; }

  // Elements [t, t + width).
  Vec<T> load(int64_t t) const { return t + width <= length_ ? Lanes<T>::load(data_ + t) : load_part(t); }
  void store(int64_t t, Vec<T> value) const {
    t + width <= length_ ? Lanes<T>::store(data_ + t, value) : store_part(t, value);
  }

  // Whether elements [first, first + n) all lie inside.
  bool has(int64_t first, int64_t n) const { return first >= 0 && first + n <= length_; }

  // Elements [first, first + n), zero where the row has none: in place where it has them all, else in `buffer`.
  const T* window(int64_t first, int64_t n, T* buffer) const {
    if constexpr (is_wide) {
      if (has(first, n)) return data_ + first;
    }
    const int64_t begin = std::clamp<int64_t>(-first, 0, n), end = std::clamp<int64_t>(length_ - first, begin, n);
    std::fill(buffer, buffer + begin, T(0));
    int64_t i = begin;
    for (; i + width <= end; i += width) Lanes<T>::store(buffer + i, Lanes<T>::load(data_ + first + i));
    for (; i < end; ++i) buffer[i] = static_cast<T>(data_[first + i]);
    std::fill(buffer + end, buffer + n, T(0));
    return buffer;
  }

  // Asks for elements [t, t + n), which will be read or written soon. Rows of a few pages begin cold each time: the
  // processor's own prefetcher stops at the end of a page.
  void expect(int64_t t, int64_t n) const {
    constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(S));
    const int64_t end = data_ == nullptr ? 0 : std::min(t + n, length_);
    for (; t < end; t += line) __builtin_prefetch(data_ + t, std::is_const_v<S> ? 0 : 1, 2);
  }

 private:
  static constexpr bool is_wide = std::is_same_v<std::remove_const_t<S>, T>;

  // Once a row at most: kept out of the loops.
  [[gnu::noinline]] Vec<T> load_part(int64_t t) const {
    T lanes[width] = {};
    for (int i = 0; t + i < length_; ++i) lanes[i] = static_cast<T>(data_[t + i]);
    return Lanes<T>::load(lanes);
  }
  [[gnu::noinline]] void store_part(int64_t t, Vec<T> value) const {
    T lanes[width];
    Lanes<T>::store(lanes, value);
    for (int i = 0; t + i < length_; ++i) data_[t + i] = static_cast<S>(lanes[i]);
  }

  S* data_ = nullptr;
  int64_t length_ = 0;
};

// The rows of a view (B, C, T) with time contiguous, or of an absent one.
template <class S>
class Signal {
 public:
  Signal(S* data, const ConstView& shape)
      : data_(data),
        batch_(shape.size(0)),
        channels_(shape.size(1)),
        time_(shape.size(2)),
        batch_stride_(shape.stride(0)),
        channel_stride_(shape.stride(1)) {}
  Signal() = default;

  // Absent when the batch ends before.
  Row<S> row(int64_t batch, int64_t channel) const {
    if (data_ == nullptr || batch >= batch_) return {};
    return {data_ + batch * batch_stride_ + channel * channel_stride_, time_};
  }

  // The row that is worked off after this one.
  Row<S> next(int64_t batch, int64_t channel) const {
    if (batch + 1 < batch_ || channel + 1 == channels_) return row(batch + 1, channel);
    return row(0, channel + 1);
  }

 private:
  S* data_ = nullptr;
  int64_t batch_ = 0, channels_ = 0, time_ = 0, batch_stride_ = 0, channel_stride_ = 0;
};

template <class S>
Signal<const S> signal(const ConstView& x) {
  return x.defined() ? Signal<const S>(x.data<S>(), x) : Signal<const S>();
}
template <class S>
Signal<S> signal(const View& x) {
  return x.defined() ? Signal<S>(x.data<S>(), x) : Signal<S>();
}

}  // namespace mahia::cpu
