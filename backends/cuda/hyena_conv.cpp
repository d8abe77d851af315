// SPDX-License-Identifier: Apache-2.0
#include "ops/hyena_conv.hpp"

#include <optional>

#include "backends/cuda/long_conv_ways.hpp"
#include "core/scratch.hpp"
#include "ops/conv1d.hpp"

namespace mahia::cuda {
namespace {

// One signal of the op: x (B, D, T), the short filter (D, K) and its bias (D). All may be absent.
struct Signal {
  explicit Signal(std::span<const ConstView> parts) : x(parts[0]), weight(parts[1]), bias(parts[2]) {}
  bool is_filtered() const { return x.defined() && weight.defined(); }
  int64_t left() const { return weight.size(1) - 1; }

  ConstView x, weight, bias;
};

// Room in scratch for a signal of x's shape.
class Room {
 public:
  explicit Room(const ConstView& x)
      : memory_(x.device(), static_cast<size_t>(x.numel()) * size_of(x.dtype())),
        view_(memory_.data<void>(), x.shape(), contiguous_strides(x.shape()), x.dtype(), x.device()) {}
  const View& view() const { return view_; }

 private:
  Scratch memory_;
  View view_;
};

// The signal behind its short filter, in scratch; x itself where there is none.
class Filtered {
 public:
  explicit Filtered(const Signal& signal) : view_(signal.x) {
    if (!signal.is_filtered()) return;
    view_ = room_.emplace(signal.x).view();
    kernels::depthwise_conv1d(signal.x, signal.weight, signal.bias, room_->view(), signal.left(), 1);
  }
  const ConstView& view() const { return view_; }

 private:
  std::optional<Room> room_;
  ConstView view_;
};

// The gradients of one signal: of x, the short filter and its bias; each absent where nobody wants it.
class Gradient {
 public:
  Gradient(const Signal& signal, std::span<const View> wanted)
      : signal_(signal), dx_(wanted[0]), dweight_(wanted[1]), dbias_(wanted[2]), of_filtered_(dx_) {
    if (!signal.is_filtered() || !(dx_.defined() || dweight_.defined() || dbias_.defined())) return;
    of_filtered_ = room_.emplace(signal.x).view();
  }
  // Where the gradient of what comes out of the short filter belongs, rounded to the signal's dtype.
  const View& of_filtered() const { return of_filtered_; }

  void go_through_short_filter() const {
    if (!room_.has_value()) return;
    kernels::depthwise_conv1d_grad(signal_.x, signal_.weight, of_filtered_, dx_, dweight_, dbias_, signal_.left(), 1);
  }

 private:
  Signal signal_;
  View dx_, dweight_, dbias_;
  std::optional<Room> room_;
  View of_filtered_;
};

void hyena_conv(std::span<const ConstView> v, std::span<const ConstView> gate_before,
                std::span<const ConstView> gate_after, ConstView h, ConstView skip, View y, View ungated,
                ConvAlgorithm algorithm) {
  if (y.numel() == 0) return;
  const Filtered u{Signal(v)}, before{Signal(gate_before)}, after{Signal(gate_after)};
  convolve({u.view(), h, skip, before.view(), after.view(), y, ungated}, algorithm);
}

void hyena_conv_grad(std::span<const ConstView> v, std::span<const ConstView> gate_before,
                     std::span<const ConstView> gate_after, ConstView h, ConstView skip, ConstView ungated,
                     ConstView dy, std::span<const View> dv, std::span<const View> dgate_before,
                     std::span<const View> dgate_after, View dh, ConvAlgorithm algorithm) {
  if (dy.numel() == 0) {
    for (const auto& gradients : {dv, dgate_before, dgate_after}) {
      for (const View& gradient : gradients) set_zero(gradient);
    }
    return set_zero(dh);
  }
  const Signal of_v(v), of_before(gate_before), of_after(gate_after);
  const Gradient du(of_v, dv), dbefore(of_before, dgate_before), dafter(of_after, dgate_after);
  {
    const Filtered u(of_v), before(of_before), after(of_after);
    convolve_grad({u.view(), h, skip, before.view(), after.view(), ungated, dy, du.of_filtered(), dh,
                   dbefore.of_filtered(), dafter.of_filtered()},
                  algorithm);
  }
  for (const Gradient* gradient : {&du, &dbefore, &dafter}) gradient->go_through_short_filter();
}

const Registered registered_hyena_conv(DeviceType::cuda, kernels::hyena_conv, hyena_conv);
const Registered registered_hyena_conv_grad(DeviceType::cuda, kernels::hyena_conv_grad, hyena_conv_grad);

}  // namespace
}  // namespace mahia::cuda
