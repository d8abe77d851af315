// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "long_conv.hpp"

namespace mahia {

// long_conv one step of time after another, for generation: what past inputs owe to later outputs is added up in the
// tiles of `dyadic` as soon as their inputs are complete (Oncescu et al. 2024, "Flash Inference"), O(T log^2 T) for T
// steps. Steps, prefill and long_conv with algorithm dyadic give the same bits, for any division of time between them
// and any batch. What is kept is f32 or wider. Has no gradient: signals that require one throw ValueError.
class LongConvState {
 public:
  // h (D, K) and skip (D) or absent, in `dtype` or f32 beside bf16; signals will have `dtype`. There is room for
  // `longest` positions. Throws ShapeError, DTypeError, ValueError.
  LongConvState(const Tensor& h, const Tensor& skip, int64_t batch, int64_t longest, DType dtype);

  // The outputs of positions 0 ... T0 - 1: u and gates (B, D, T0) -> (B, D, T0), as long_conv. Only at position 0.
  // Throws ShapeError, DTypeError, ValueError.
  Tensor prefill(const Tensor& u, const Tensor& gate_before = {}, const Tensor& gate_after = {});

  // The output at position(), which moves on by one: u and gates (B, D) -> (B, D). Throws ShapeError, DTypeError,
  // ValueError when there is no room left.
  Tensor step(const Tensor& u, const Tensor& gate_before = {}, const Tensor& gate_after = {});

  int64_t position() const { return position_; }

 private:
  void check_operands(const char* op, const Shape& shape, const Tensor& u, const Tensor& gate_before,
                      const Tensor& gate_after) const;

  DType dtype_;
  DyadicTiling tiling_ = {};
  Tensor filter_, history_, sums_, block_;
  int64_t position_ = 0;
};

namespace kernels {
// What the tiles need of the filters, skip added to their first taps: h (D, K) -> filter (D, 4 n), n =
// tiling.largest(). Numbers [2 m, 4 m) of a row are for the tiles of m = 2 base ... n inputs, those before for the
// base; what they mean is the backend's affair.
inline constinit Kernel<void(ConstView h, ConstView skip, View filter, DyadicTiling tiling)> long_conv_state_filter{
    "long_conv_state_filter"};
// The first T0 positions: y as kernels::long_conv, and the state behind them. history (B, D, N) holds v = u *
// gate_before up to the present, sums (B, D, N) what finished tiles owe to each output, with room for whole
// blocks; both are zero at first. block (B, D, base) is what the present block owes to its own outputs. All are
// contiguous.
inline constinit Kernel<void(ConstView filter, ConstView u, ConstView gate_before, ConstView gate_after, View history,
                             View sums, View block, View y, DyadicTiling tiling)>
    long_conv_state_prefill{
        "long_conv_state_prefill",
        [](const ConstView& filter, const ConstView& u, const ConstView& before, const ConstView& after,
           const View& history, const View&, const View&, const View& y, const DyadicTiling& tiling) {
          const double rows = static_cast<double>(u.size(0) * u.size(1));
          return Cost{bytes_of({&filter, &u, &before, &after, &history, &y}), rows * tiling.flops()};
        }};
// The tile at `position`, a multiple of base > 0: from the inputs before it to the sums from it on, as far as they go.
inline constinit Kernel<void(ConstView filter, ConstView history, View sums, int64_t position, DyadicTiling tiling)>
    long_conv_state_tile{"long_conv_state_tile", [](const ConstView&, const ConstView& history, const View& sums,
                                                    const int64_t& position, const DyadicTiling& tiling) {
                           const int64_t inputs = tiling.at(position);
                           const double rows = static_cast<double>(history.size(0) * history.size(1));
                           const double bytes =
                               3 * static_cast<double>(inputs * static_cast<int64_t>(size_of(sums.dtype())));
                           return Cost{rows * bytes, rows * DyadicTiling::tile_flops(inputs)};
                         }};
// One position: u, gates, y (B, D), contiguous. A multiple of base begins a block.
inline constinit Kernel<void(ConstView filter, ConstView u, ConstView gate_before, ConstView gate_after, View history,
                             ConstView sums, View block, View y, int64_t position)>
    long_conv_state_step{
        "long_conv_state_step",
        [](const ConstView&, const ConstView& u, const ConstView& before, const ConstView& after, const View&,
           const ConstView&, const View& block, const View& y, const int64_t& position) {
          const int64_t outputs = DyadicTiling::base - position % DyadicTiling::base;
          return Cost{bytes_of({&u, &before, &after, &block, &y}), 2 * static_cast<double>(u.numel() * outputs)};
        }};
}  // namespace kernels

}  // namespace mahia
