// SPDX-License-Identifier: Apache-2.0
#include "ops/long_conv_state.hpp"

#include "autograd/record.hpp"
#include "core/factory.hpp"
#include "ops/shape.hpp"

namespace mahia {

LongConvState::LongConvState(const Tensor& h, const Tensor& skip, int64_t batch, int64_t longest, DType dtype)
    : dtype_(dtype) {
  check<ShapeError>(h.rank() == 2 && h.size(1) >= 1, "long_conv_state: h must be (D, K) with K >= 1, got ", h);
  const int64_t channels = h.size(0), base = DyadicTiling::base;
  check<ShapeError>(!skip || skip.shape() == Shape{channels}, "long_conv_state: skip must be (D) with D = ", channels,
                    ": h ", h, ", skip ", skip);
  check<ValueError>(batch >= 0 && longest >= 1, "long_conv_state: needs batch >= 0 and longest >= 1, got ", batch,
                    " and ", longest);
  const bool is_float = is_floating_point(dtype) && dtype != DType::f16;
  check<DTypeError>(is_float, "long_conv_state: needs signals in f64, f32 or bf16, got ", dtype);
  const Tensor signal = empty({0}, dtype, h.device());
  check_filter_dtype("long_conv_state", signal, h);
  check_filter_dtype("long_conv_state", signal, skip);

  tiling_ = {h.size(1), longest};
  const Tensor taps = widened_filter(h, dtype), direct = widened_filter(skip, dtype);
  constexpr int64_t apart = 16;  // rows a power of two apart would compete for the same places of a cache
  const int64_t length = (longest + base - 1) / base * base + apart;
  filter_ = empty({channels, 4 * tiling_.largest()}, taps.dtype(), h.device());
  history_ = zeros({batch, channels, length}, taps.dtype(), h.device());
  sums_ = zeros({batch, channels, length}, taps.dtype(), h.device());
  block_ = zeros({batch, channels, base}, taps.dtype(), h.device());
  if (channels > 0) kernels::long_conv_state_filter(taps, direct, filter_.output_view(), tiling_);
}

void LongConvState::check_operands(const char* op, const Shape& shape, const Tensor& u, const Tensor& gate_before,
                                   const Tensor& gate_after) const {
  for (const Tensor* x : {&u, &gate_before, &gate_after}) {
    const char* name = x == &u ? "u" : x == &gate_before ? "gate_before" : "gate_after";
    if (x != &u && !*x) continue;
    check<ShapeError>(x->shape() == shape, op, ": ", name, " must be ", shape, ", got ", *x);
    check<DTypeError>(x->dtype() == dtype_, op, ": ", name, " must be ", dtype_, ", got ", *x);
    check<ValueError>(!grad_enabled() || !x->requires_grad(), op, ": has no backward, but ", name,
                      " requires a gradient: ", *x, "; pass detach() or work under NoGrad");
  }
}

Tensor LongConvState::prefill(const Tensor& u, const Tensor& gate_before, const Tensor& gate_after) {
  check<ValueError>(position_ == 0, "long_conv_state.prefill: begins at position 0, the state is at ", position_);
  check<ShapeError>(u.rank() == 3, "long_conv_state.prefill: u must be (B, D, T), got ", u);
  check_operands("long_conv_state.prefill", {history_.size(0), history_.size(1), u.size(2)}, u, gate_before,
                 gate_after);
  check<ValueError>(u.size(2) <= tiling_.time, "long_conv_state.prefill: there is room for ", tiling_.time,
                    " positions, u is ", u);
  const Tensor signal = time_contiguous(u), before = time_contiguous(gate_before), after = time_contiguous(gate_after);
  const Tensor y =
      without_gradient("long_conv_state.prefill", empty_signal(signal, u.size(2)), {u, gate_before, gate_after});
  if (y.numel() > 0) {
    kernels::long_conv_state_prefill(filter_, signal, before, after, history_.mutable_view(), sums_.mutable_view(),
                                     block_.mutable_view(), y.output_view(), tiling_);
  }
  position_ = u.size(2);
  return without_gradient("long_conv_state.prefill", y, {});
}

Tensor LongConvState::step(const Tensor& u, const Tensor& gate_before, const Tensor& gate_after) {
  check_operands("long_conv_state.step", {history_.size(0), history_.size(1)}, u, gate_before, gate_after);
  check<ValueError>(position_ < tiling_.time, "long_conv_state.step: all ", tiling_.time, " positions are taken");
  const Tensor signal = contiguous(u);
  const Tensor y = empty_like(signal);
  if (y.numel() > 0) {
    if (position_ > 0 && position_ % DyadicTiling::base == 0 && tiling_.at(position_) > 0) {
      kernels::long_conv_state_tile(filter_, history_, sums_.mutable_view(), position_, tiling_);
    }
    kernels::long_conv_state_step(filter_, signal, gate_before ? contiguous(gate_before) : Tensor(),
                                  gate_after ? contiguous(gate_after) : Tensor(), history_.mutable_view(), sums_,
                                  block_.mutable_view(), y.output_view(), position_);
  }
  ++position_;
  return without_gradient("long_conv_state.step", y, {});
}

}  // namespace mahia
