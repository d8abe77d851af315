// SPDX-License-Identifier: Apache-2.0
#include "ops/long_conv.hpp"

#include <algorithm>
#include <bit>

#include "autograd/record.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/shape.hpp"
#include "ops/signal.hpp"

namespace mahia {
namespace {

void check_operands(const Tensor& u, const Tensor& h, const LongConvOptions& options) {
  const auto& [skip, before, after, algorithm] = options;
  const bool is_float = is_floating_point(u.dtype()) && u.dtype() != DType::f16;
  check<DTypeError>(is_float, "long_conv: needs f64, f32 or bf16, got u ", u);
  check<ShapeError>(u.rank() == 3, "long_conv: u must be (B, D, T), got ", u);
  check<ShapeError>(h.rank() == 2 && h.size(0) == u.size(1) && h.size(1) >= 1,
                    "long_conv: h must be (D, K) with D = ", u.size(1), ", K >= 1: u ", u, ", h ", h);
  check<ShapeError>(!skip || skip.shape() == Shape{u.size(1)}, "long_conv: skip must be (D) with D = ", u.size(1),
                    ": u ", u, ", skip ", skip);
  for (const Tensor* gate : {&before, &after}) {
    const char* name = gate == &before ? "gate_before" : "gate_after";
    check<ShapeError>(!*gate || gate->shape() == u.shape(), "long_conv: ", name, " must have u's shape: u ", u, ", ",
                      name, " ", *gate);
    check<DTypeError>(!*gate || gate->dtype() == u.dtype(), "long_conv: ", name, " must have u's dtype: u ", u, ", ",
                      name, " ", *gate);
  }
  check_filter_dtype("long_conv", u, h);
  check_filter_dtype("long_conv", u, skip);
}

View output(const Tensor& x) { return x ? x.output_view() : View(); }

Tensor wanted(const GradContext& ctx, int input, const Tensor& like) {
  return ctx.needs(input) ? empty_signal(like, like.size(2)) : Tensor();
}

// Room for dh, or for its first tap alone when only skip, which acts as that tap, wants a gradient.
Tensor filter_gradient(const GradContext& ctx, const Tensor& h) {
  if (ctx.needs(1)) return empty_like(h);
  return ctx.needs(2) ? empty({h.size(0), 1}, h.dtype(), h.device()) : Tensor();
}

Tensor in_dtype(const Tensor& x, DType dtype) { return copy_to(x, x.device(), dtype); }

// Pairs of an output and an input that a tap joins.
double joined_pairs(int64_t time, int64_t taps) {
  const auto t = static_cast<double>(time), k = static_cast<double>(std::min(time, taps));
  return t * k - k * (k - 1) / 2;
}

// Up to so many taps direct sums take no longer than a transform. On a GPU short rows are transformed many at a time,
// and rows beyond 16,384 in several passes.
int64_t most_direct_taps(Device device, int64_t time) {
  if (device.type == DeviceType::cpu) return time < 8192 ? 64 : 128;
  return time < 16384 ? 0 : time == 16384 ? 64 : 128;
}

int64_t bit_floor(int64_t n) { return static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(n))); }
int64_t bit_ceil(int64_t n) { return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n))); }

}  // namespace

const char* name_of(ConvAlgorithm algorithm) {
  static constexpr const char* names[] = {"automatic", "fft", "dyadic", "direct"};
  return names[static_cast<size_t>(algorithm)];
}

// Where the direct sums take as long as the transform, measured (docs/hyena.md, "Algorithms").
ConvAlgorithm resolve(ConvAlgorithm wanted, Device device, int64_t time, int64_t taps) {
  if (wanted != ConvAlgorithm::automatic) return wanted;
  return std::min(time, taps) <= most_direct_taps(device, time) ? ConvAlgorithm::direct : ConvAlgorithm::fft;
}

int64_t DyadicTiling::largest() const {
  if (time <= 2 * base || taps <= base + 1) return base;
  return std::min(bit_floor(time - 1), bit_ceil(taps - 1));
}

int64_t DyadicTiling::at(int64_t position) const { return taps == 1 ? 0 : std::min(position & -position, largest()); }

double DyadicTiling::tile_flops(int64_t inputs) {
  return inputs <= base ? 2 * static_cast<double>(inputs * inputs) : fft_flops(2, inputs);
}

double DyadicTiling::flops() const {
  double total = static_cast<double>((time + base - 1) / base * base * (base + 1));
  for (int64_t n = base; taps > 1 && n <= largest(); n *= 2) {
    const int64_t boundaries = (time - 1) / n, tiles = n == largest() ? boundaries : (boundaries + 1) / 2;
    total += static_cast<double>(tiles) * tile_flops(n);
  }
  return total;
}

namespace kernels {

Cost cost_of_long_conv(const ConstView& u, const ConstView& h, const ConstView& skip, const ConstView& gate_before,
                       const ConstView& gate_after, const View& y, const View& ungated,
                       const ConvAlgorithm& algorithm) {
  const int64_t rows = u.size(0) * u.size(1), time = u.size(2), taps = h.size(1);
  const double bytes = bytes_of({&u, &h, &skip, &gate_before, &gate_after, &y, &ungated});
  if (algorithm == ConvAlgorithm::direct) return {bytes, 2 * static_cast<double>(rows) * joined_pairs(time, taps)};
  if (algorithm == ConvAlgorithm::fft) return {bytes, fft_flops(2 * rows + u.size(1), time)};
  const DyadicTiling tiling{taps, time};
  const double spectra = static_cast<double>(u.size(1)) * fft_flops(1, 2 * tiling.largest());
  return {bytes, static_cast<double>(rows) * tiling.flops() + spectra};
}

Cost cost_of_long_conv_grad(const ConstView& u, const ConstView& h, const ConstView& skip, const ConstView& gate_before,
                            const ConstView& gate_after, const ConstView& ungated, const ConstView& dy, const View& du,
                            const View& dh, const View& dgate_before, const View& dgate_after,
                            const ConvAlgorithm& algorithm) {
  const int64_t rows = u.size(0) * u.size(1), time = u.size(2), taps = h.size(1);
  const double bytes =
      bytes_of({&u, &h, &skip, &gate_before, &gate_after, &ungated, &dy, &du, &dh, &dgate_before, &dgate_after});
  if (algorithm == ConvAlgorithm::direct) return {bytes, 4 * static_cast<double>(rows) * joined_pairs(time, taps)};
  if (algorithm == ConvAlgorithm::fft) return {bytes, fft_flops(3 * rows + 2 * u.size(1), time)};
  const DyadicTiling tiling{taps, time};
  const double spectra = static_cast<double>(u.size(1)) * fft_flops(2, 2 * tiling.largest());
  return {bytes, 1.5 * static_cast<double>(rows) * tiling.flops() + spectra};
}

}  // namespace kernels

Tensor long_conv(const Tensor& u, const Tensor& h, const LongConvOptions& options) {
  check_operands(u, h, options);
  const auto& [skip, gate_before, gate_after, wanted_algorithm] = options;
  const ConvAlgorithm algorithm = resolve(wanted_algorithm, u.device(), u.size(2), h.size(1));
  const Tensor signal = time_contiguous(u), before = time_contiguous(gate_before), after = time_contiguous(gate_after);
  const Tensor filter = widened_filter(h, u.dtype()), direct = widened_filter(skip, u.dtype());
  const bool keeps_ungated = grad_enabled() && after && after.requires_grad();
  const Tensor ungated = keeps_ungated ? empty_signal(signal, signal.size(2)) : Tensor();
  Tensor y = empty_signal(signal, signal.size(2));
  if (y.numel() > 0) {
    kernels::long_conv(signal, filter, direct, before, after, output(y), output(ungated), algorithm);
  }
  return record("long_conv", y, {signal, h, skip, before, after},
                [u = save(signal), h = save(filter), skip = save(direct), before = save(before), after = save(after),
                 ungated = save(ungated), h_dtype = h.dtype(), skip_dtype = skip ? skip.dtype() : h.dtype(),
                 algorithm](GradContext& ctx) {
                  const Tensor du = wanted(ctx, 0, *u), dbefore = wanted(ctx, 3, *u), dafter = wanted(ctx, 4, *u);
                  const Tensor dh = filter_gradient(ctx, *h), dy = time_contiguous(ctx.strided_grad());
                  if (dy.numel() > 0) {
                    kernels::long_conv_grad(*u, *h, *skip, *before, *after, *ungated, dy, output(du), output(dh),
                                            output(dbefore), output(dafter), algorithm);
                  } else if (dh) {
                    fill(dh, 0);
                  }
                  return Tensors{du, ctx.needs(1) ? in_dtype(dh, h_dtype) : Tensor(),
                                 ctx.needs(2) ? in_dtype(select(dh, 1, 0), skip_dtype) : Tensor(), dbefore, dafter};
                });
}

}  // namespace mahia
