// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cpu/conv1d_rows.hpp"
#include "core/scratch.hpp"

// Rows of a signal, read as they are or through a causal depthwise convolution, the short filter, which leaves the
// filtered row in scratch, rounded to the signal's dtype: what conv1d would have stored.
namespace mahia::cpu {

// A signal and the short filter that it is read through; without a weight it is read as it is. And the gradients.
struct FilteredView {
  ConstView x, weight, bias;
};
struct FilteredGradient {
  View dx, dweight, dbias;
};

// The short filter of a channel, and room for one filtered row and for filtering. Without a weight nothing.
template <class S>
class RowFilterRoom {
 public:
  using T = compute_t<S>;
  explicit RowFilterRoom(const FilteredView& from)
      : weight_(from.weight),
        bias_(from.bias),
        time_(weight_.defined() ? from.x.size(2) : 0),
        filter_{weight_.defined() ? weight_.size(1) : 0, weight_.defined() ? weight_.size(1) - 1 : 0, 1},
        scratch_(cpu_device, weight_.defined() ? bytes() : 0) {}
  explicit operator bool() const { return weight_.defined(); }
  Row<S> row() const { return {reinterpret_cast<S*>(work() + filter_.work_size()), time_}; }
  T* work() const { return scratch_.template data<T>(); }
  const RowFilter<S>& filter() const { return filter_; }
  const T* weight(int64_t channel) const { return weight_.data<T>() + channel * filter_.taps; }
  T bias(int64_t channel) const { return bias_.defined() ? bias_.data<T>()[channel] : T(0); }

 private:
  size_t bytes() const { return filter_.work_size() * sizeof(T) + static_cast<size_t>(time_) * sizeof(S); }

  ConstView weight_, bias_;
  int64_t time_;
  RowFilter<S> filter_;
  Scratch scratch_;
};

// The rows that a task reads of one signal, filtered once however often they are asked for. May be absent.
template <class S>
class InputRows {
 public:
  explicit InputRows(const FilteredView& from) : x_(signal<S>(from.x)), room_(from) {}

  // Valid until another row is asked for.
  Row<const S> row(int64_t batch, int64_t channel) {
    const Row<const S> x = x_.row(batch, channel);
    if (!room_) return x;
    const Row<S> filtered = room_.row();
    if (batch != batch_ || channel != channel_) {
      room_.filter().forward(x, room_.weight(channel), room_.bias(channel), filtered, room_.work());
      batch_ = batch;
      channel_ = channel;
    }
    return {filtered.data(), filtered.length()};
  }
  // As they are in memory: this row and the one that is worked off next.
  Row<const S> stored(int64_t batch, int64_t channel) const { return x_.row(batch, channel); }
  Row<const S> next(int64_t batch, int64_t channel) const { return x_.next(batch, channel); }

 private:
  Signal<const S> x_;
  RowFilterRoom<S> room_;
  int64_t batch_ = -1, channel_ = -1;
};

// The gradients of such rows. A task writes row(b, d), for all b in order, and finishes it.
template <class S>
class GradientRows {
 public:
  using T = compute_t<S>;
  GradientRows(const FilteredView& from, const FilteredGradient& to)
      : x_(signal<S>(from.x)), dx_(signal<S>(to.dx)), to_(to), room_(is_wanted(to) ? from : FilteredView()) {}

  bool is_wanted() const { return is_wanted(to_); }
  // Absent if not wanted.
  Row<S> row(int64_t batch, int64_t channel) const { return room_ ? room_.row() : dx_.row(batch, channel); }
  // What is written in the end, also of the next row.
  Row<S> stored(int64_t batch, int64_t channel) const { return dx_.row(batch, channel); }
  Row<S> next(int64_t batch, int64_t channel) const { return dx_.next(batch, channel); }

  void finish(int64_t batch, int64_t channel) const {
    if (!room_) return;
    const RowFilter<S>& filter = room_.filter();
    const Row<const S> dy(room_.row().data(), room_.row().length());
    if (dx_.row(batch, channel)) filter.backward(dy, room_.weight(channel), dx_.row(batch, channel), room_.work());
    T* const dweight = to_.dweight.defined() ? to_.dweight.data<T>() + channel * filter.taps : nullptr;
    T* const dbias = to_.dbias.defined() ? to_.dbias.data<T>() + channel : nullptr;
    if (batch == 0 && dweight != nullptr) std::fill_n(dweight, filter.taps, T(0));
    if (batch == 0 && dbias != nullptr) *dbias = T(0);
    filter.add_weight_gradients(x_.row(batch, channel), dy, dweight, dbias, room_.work());
  }

 private:
  // Any of the three.
  static bool is_wanted(const FilteredGradient& to) {
    return to.dx.defined() || to.dweight.defined() || to.dbias.defined();
  }

  Signal<const S> x_;
  Signal<S> dx_;
  FilteredGradient to_;
  RowFilterRoom<S> room_;
};

}  // namespace mahia::cpu
