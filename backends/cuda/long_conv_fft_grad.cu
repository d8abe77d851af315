// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/long_conv_rows.cuh"
#include "backends/cuda/long_conv_ways.hpp"

// With v = u * gate_before and r = dy * gate_after the gradient of v is r correlated with the filter, that of the
// filter v correlated with r, summed over the batch. A team walks some rows of one channel and adds up their spectra
// for the second in order; another kernel adds the sums of a channel's teams up in order and transforms them back.
namespace mahia::cuda {
namespace {

template <int bits>
using NarrowTeam = FftTeam<bits, false>;

template <class S>
struct Backward {
  ConvSignal<const S> u, gate_before, gate_after, ungated, dy;
  ConvSignal<S> du, dgate_before, dgate_after;
};

// The rows of `channels` channels from `first` on in groups of `rows` neighbours in the batch. The teams of one group
// lie side by side, one for each channel.
struct ConvGroups {
  int64_t count, rows, batch, first, channels;
  int time;
};

// x = the row's r; dgate_after = dy * ungated.
template <class S, class Team>
__device__ __forceinline__ void load_gradient(const Team& team, const Backward<S>& operands, int64_t batch,
                                              int64_t channel, int time, typename Team::Numbers& x) {
  load_row<S>(team, operands.dy.row(batch, channel), nullptr, time, x);
  if (operands.dgate_after) {
    store_row(team, x, operands.ungated.row(batch, channel), time, operands.dgate_after.row(batch, channel));
  }
  if (operands.gate_after) scale_row(team, operands.gate_after.row(batch, channel), time, x);
}

// sum (+)= conj(v) r at each root.
template <class Team>
__device__ __forceinline__ void add_to_sum(const Complex* v, const typename Team::Numbers& r, bool begins,
                                           Complex* sum) {
#pragma unroll
  for (int i = 0; i < Team::held; ++i) {
    const int at = i * Team::threads;
    sum[at] = plus_conj_times(begins ? Complex{0.f, 0.f} : sum[at], v[at], r[i]);
  }
}

// `filters`: (channels, n), null where no signal's gradient is wanted; `sums`: (groups, channels, n), null where no
// filter's is. Bytes moved: each operand once; from and to the second-level cache 16 n a row for the sums and 8 n for
// the filter. Of (B, D, T) = (4, 768, 16384) in bf16 with gates 800 MB: 0.24 ms at 3.35 TB/s; the butterflies of three
// transforms take 0.35.
template <class S, int bits>
__global__ void __launch_bounds__(FftShape<bits>::block, FftShape<bits>::blocks_per_multiprocessor)
    convolve_rows_grad(const Backward<S> operands, const ConvGroups groups, const Complex* filters, Complex* sums,
                       const FftRootPair* tree) {
  using Shape = FftShape<bits>;
  char* const memory = team_memory<Shape>(sizeof(Complex) * Shape::n + NarrowTeam<bits>::shared_bytes);
  const NarrowTeam<bits> team(memory + sizeof(Complex) * Shape::n, tree);
  Complex* const v = reinterpret_cast<Complex*>(memory) + team.lane();
  const int64_t number = team_number<Shape>(), group = number / groups.channels;
  const int64_t filter = number - group * groups.channels, channel = groups.first + filter;
  Complex x[Shape::held];
  for (int64_t i = 0; i < groups.rows; ++i) {
    const int64_t batch = group * groups.rows + i;
    const int time = batch < groups.batch ? groups.time : 0;
    if (sums != nullptr) {
      load_row(team, operands.u.row(batch, channel), operands.gate_before.row(batch, channel), time, x);
      team.forward(x);
#pragma unroll
      for (int k = 0; k < Shape::held; ++k) v[k * Shape::threads] = x[k];
    }
    load_gradient(team, operands, batch, channel, time, x);
    if (sums == nullptr && filters == nullptr) continue;
    team.forward(x);
    if (sums != nullptr && time > 0) {
      add_to_sum<NarrowTeam<bits>>(v, x, i == 0, spectrum_at(team, sums, number, 0));
    }
    if (filters == nullptr) continue;
    multiply_by<true, NarrowTeam<bits>>(spectrum_at(team.afresh(), filters, filter, 0), x);
    team.inverse(x);
    if (operands.dgate_before) {
      store_row(team, x, operands.u.row(batch, channel), time, operands.dgate_before.row(batch, channel));
    }
    if (operands.du)
      store_row(team, x, operands.gate_before.row(batch, channel), time, operands.du.row(batch, channel));
  }
}

// dh (D, taps) from the sums: a team makes one channel's. Bytes moved: 8 n for each group, 4 taps.
template <int bits>
__global__ void __launch_bounds__(FftShape<bits>::block, FftShape<bits>::blocks_per_multiprocessor)
    filter_gradients(const Complex* sums, const ConvGroups groups, float* dh, int64_t taps, const FftRootPair* tree) {
  using Shape = FftShape<bits>;
  const NarrowTeam<bits> team(team_memory<Shape>(NarrowTeam<bits>::shared_bytes), tree);
  const int64_t filter = team_number<Shape>();
  const bool active = filter < groups.channels;
  Complex x[Shape::held];
#pragma unroll
  for (int i = 0; i < Shape::held; ++i) x[i] = {0.f, 0.f};
  for (int64_t group = 0; active && group < groups.count; ++group) {
    const Complex* const sum = spectrum_at(team, sums, group * groups.channels + filter, 0);
#pragma unroll
    for (int i = 0; i < Shape::held; ++i) {
      const Complex term = sum[i * Shape::threads];
      x[i] = {x[i].re + term.re, x[i].im + term.im};
    }
  }
  team.inverse(x);
  if (!active) return;
  float* const to = dh + (groups.first + filter) * taps;
  const int reached = static_cast<int>(min(taps, static_cast<int64_t>(groups.time)));
  for_times(team, reached, [&](int i, int t) { to[t] = x[i].re * (1.f / Shape::n); });
  for (int64_t t = reached + team.lane(); t < taps; t += Shape::threads) to[t] = 0.f;
}

// Enough teams to fill the device several times over, as far as there are rows.
template <class Shape>
ConvGroups groups_for(const ConstView& u, int64_t first, int64_t channels) {
  const int64_t resident = int64_t{multiprocessors(u.device())} * Shape::blocks_per_multiprocessor * Shape::teams;
  const int64_t batch = u.size(0), wanted = std::clamp<int64_t>(ceil_div(4 * resident, u.size(1)), 1, batch);
  const int64_t rows = ceil_div(batch, wanted);
  return {ceil_div(batch, rows), rows, batch, first, channels, static_cast<int>(u.size(2))};
}

template <class S, int bits>
void convolve_grad(const ConvGradCall& call) {
  using Shape = FftShape<bits>;
  const auto& [u, h, skip, gate_before, gate_after, ungated, dy, du, dh, dgate_before, dgate_after] = call;
  const Backward<S> operands{
      conv_input<S>(u),  conv_input<S>(gate_before), conv_input<S>(gate_after),    conv_input<S>(ungated),
      conv_input<S>(dy), conv_output<S>(du),         conv_output<S>(dgate_before), conv_output<S>(dgate_after)};
  const bool to_signal = du.defined() || dgate_before.defined(), to_filter = dh.defined();
  const FftRootPair* const tree = fft_roots(u.device());
  const int64_t spectra = to_signal + (to_filter ? groups_for<Shape>(u, 0, 0).count : 0);
  constexpr size_t spectrum_bytes = sizeof(Complex) * Shape::n;
  for_channel_slices(u, static_cast<size_t>(spectra) * spectrum_bytes,
                     [&](int64_t first, int64_t count, Complex* data) {
                       const ConvGroups groups = groups_for<Shape>(u, first, count);
                       Complex* const filters = to_signal ? data : nullptr;
                       Complex* const sums = to_filter ? data + to_signal * count * Shape::n : nullptr;
                       if (to_signal)
                         transform_filters(u.device(), bits, conv_filters(h, skip, groups.time, first, count), filters);
                       launch_teams<convolve_rows_grad<S, bits>, Shape>(u.device(), groups.count * count,
                                                                        spectrum_bytes + NarrowTeam<bits>::shared_bytes,
                                                                        operands, groups, filters, sums, tree);
                       if (!to_filter) return;
                       launch_teams<filter_gradients<bits>, Shape>(u.device(), count, NarrowTeam<bits>::shared_bytes,
                                                                   sums, groups, dh.data<float>(), dh.size(1), tree);
                     });
}

}  // namespace

void convolve_in_blocks_grad(const ConvGradCall& call) {
  visit_fft_bits(fft_bits(call.u.size(2)), [&]<int bits>() {
    if (call.u.dtype() == DType::f32) return convolve_grad<float, bits>(call);
    convolve_grad<bfloat16, bits>(call);
  });
}

}  // namespace mahia::cuda
