// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/long_conv_rows.cuh"
#include "backends/cuda/long_conv_ways.hpp"
#include "core/scratch.hpp"

// One kernel from the operands in memory to the results in memory: a team of threads transforms its row, multiplies it
// with the spectrum of its channel's filter and transforms it back, in registers and shared memory.
namespace mahia::cuda {
namespace {

template <int bits>
using WideTeam = FftTeam<bits, true>;

// A team transforms one filter. Bytes moved: 4 K read and 8 n written for each.
template <int bits>
__global__ void __launch_bounds__(FftShape<bits>::block, FftShape<bits>::blocks_per_multiprocessor)
    filter_spectra(const ConvFilters filters, Complex* spectra, const FftRootPair* tree) {
  using Shape = FftShape<bits>;
  const WideTeam<bits> team(team_memory<Shape>(WideTeam<bits>::shared_bytes), tree);
  const int64_t row = team_number<Shape>(), channel = filters.first + row;
  const bool active = row < filters.count;
  Complex x[Shape::held];
  load_row<float>(team, filters.taps + channel * filters.taps_per_channel, nullptr, active ? filters.reach : 0, x);
  if (active && team.lane() == 0 && filters.skip != nullptr) x[0].re += filters.skip[channel];
  team.forward(x);
  if (!active) return;
#pragma unroll
  for (int i = 0; i < Shape::held; ++i) {
    constexpr float scale = 1.f / Shape::n;
    *spectrum_at(team, spectra, row, i) = {scale * x[i].re, scale * x[i].im};
  }
}

template <class S>
struct Forward {
  ConvSignal<const S> u, gate_before, gate_after;
  ConvSignal<S> y, ungated;
};

// A team makes one row. Bytes moved: each operand once, the spectra, mostly from the second-level cache, 8 n a row.
// Of (B, D, T) = (4, 768, 16384) in bf16 with gates and `ungated` 500 MB and 200 MB of spectra: 0.21 ms at 3.35 TB/s;
// the butterflies, 100 instructions an element and thread, take 0.2 ms.
template <class S, int bits>
__global__ void __launch_bounds__(FftShape<bits>::block, FftShape<bits>::blocks_per_multiprocessor)
    convolve_rows(const Forward<S> operands, const ConvRows rows, const Complex* spectra, const FftRootPair* tree) {
  using Shape = FftShape<bits>;
  const WideTeam<bits> team(team_memory<Shape>(WideTeam<bits>::shared_bytes), tree);
  const auto [batch, channel, filter, time] = rows.place(team_number<Shape>());
  Complex x[Shape::held];
  load_row(team, operands.u.row(batch, channel), operands.gate_before.row(batch, channel), time, x);
  team.forward(x);
  multiply_by<false, WideTeam<bits>>(spectrum_at(team.afresh(), spectra, filter, 0), x);
  team.inverse(x);
  if (operands.ungated) store_row<S>(team, x, nullptr, time, operands.ungated.row(batch, channel));
  store_row(team, x, operands.gate_after.row(batch, channel), time, operands.y.row(batch, channel));
}

}  // namespace

void transform_filters(Device device, int wanted_bits, const ConvFilters& filters, Complex* spectra) {
  visit_fft_bits(wanted_bits, [&]<int bits>() {
    launch_teams<filter_spectra<bits>, FftShape<bits>>(device, filters.count, WideTeam<bits>::shared_bytes, filters,
                                                       spectra, fft_roots(device));
  });
}

void convolve_in_blocks(const ConvCall& call) {
  const auto& [u, h, skip, gate_before, gate_after, y, ungated] = call;
  const int64_t batch = u.size(0), time = u.size(2);
  const FftRootPair* const tree = fft_roots(u.device());
  const auto convolve = [&]<class S, int bits>() {
    const Forward<S> operands{conv_input<S>(u), conv_input<S>(gate_before), conv_input<S>(gate_after),
                              conv_output<S>(y), conv_output<S>(ungated)};
    for_channel_slices(u, sizeof(Complex) << bits, [&](int64_t first, int64_t count, Complex* spectra) {
      transform_filters(u.device(), bits, conv_filters(h, skip, time, first, count), spectra);
      const ConvRows rows{count * batch, batch, first, static_cast<int>(time)};
      launch_teams<convolve_rows<S, bits>, FftShape<bits>>(u.device(), rows.count, WideTeam<bits>::shared_bytes,
                                                           operands, rows, spectra, tree);
    });
  };
  visit_fft_bits(fft_bits(time), [&]<int bits>() {
    if (u.dtype() == DType::f32) return convolve.template operator()<float, bits>();
    convolve.template operator()<bfloat16, bits>();
  });
}

}  // namespace mahia::cuda
