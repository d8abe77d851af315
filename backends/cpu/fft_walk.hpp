// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <initializer_list>

#include "backends/cpu/fft_plan.hpp"
#include "core/parallel.hpp"

namespace mahia::cpu {

// Walks the tree below the root depth first, so that a long row is worked off in pieces that fit the caches. On the way
// down the arrays of `split` are split; at the bottom leaf(begin, end) sees each finished block of complex vectors; on
// the way up `merged`, if any, is merged.
template <class T>
void walk(const FftPlan<T>& plan, std::initializer_list<Complex<T>*> split, Complex<T>* merged, RangeBody leaf);

// The same for the whole tree, root included: coefficients to values at the roots, in the plan's order, or back,
// `plan.size` times too large.
template <class T>
void walk_from_root(const FftPlan<T>& plan, std::initializer_list<Complex<T>*> split, Complex<T>* merged,
                    RangeBody leaf);

// A leaf that does nothing.
inline constexpr auto leave_as_is = [](int64_t, int64_t) {};

// Splits one node: reads vector i of its coefficients as source(i), real or complex, writes remainders to x.
template <int R, class T, class Source>
void split_node(const FftPass<T>& pass, int64_t node, Complex<T>* x, Source source) {
  const int64_t leg = pass.leg;
  Complex<T> t[R], out[R];
  load_twiddles<R>(pass.twiddles.data() + node * 2 * twiddle_count<R>, t);
  for (int64_t k = 0; k < leg; ++k) {
    decltype(source(k)) in[R];
    for (int m = 0; m < R; ++m) in[m] = source(k + m * leg);
    Butterfly<R>::split(in, t, out);
    for (int m = 0; m < R; ++m) x[k + m * leg] = out[m];
  }
}

// Merges one node: reads remainders from x, hands vector i of its coefficients to sink(i, vector).
template <int R, class T, class Sink>
void merge_node(const FftPass<T>& pass, int64_t node, const Complex<T>* x, Sink sink) {
  const int64_t leg = pass.leg;
  Complex<T> t[R], in[R], out[R];
  load_twiddles<R>(pass.twiddles.data() + node * 2 * twiddle_count<R>, t);
  for (int64_t k = 0; k < leg; ++k) {
    for (int m = 0; m < R; ++m) in[m] = x[k + m * leg];
    Butterfly<R>::merge(in, t, out);
    for (int m = 0; m < R; ++m) sink(k + m * leg, out[m]);
  }
}

// Splits the root while it reads a real row: source(t) gives elements [t, t + lanes).
template <class T, class Source>
void read_row(const FftPlan<T>& plan, Complex<T>* x, Source source) {
  const FftPass<T>& root = plan.passes[0];
  const auto vector = [source](int64_t i) { return source(i * lane_count<T>); };
  root.radix == 4 ? split_node<4>(root, 0, x, vector) : split_node<1>(root, 0, x, vector);
}

// Merges the root while it writes a real row: sink(t, v) gets elements [t, t + lanes), `plan.size` times too large.
template <class T, class Sink>
void write_row(const FftPlan<T>& plan, const Complex<T>* x, Sink sink) {
  const FftPass<T>& root = plan.passes[0];
  const auto vector = [sink](int64_t i, Complex<T> value) { sink(i * lane_count<T>, value.re); };
  root.radix == 4 ? merge_node<4>(root, 0, x, vector) : merge_node<1>(root, 0, x, vector);
}

}  // namespace mahia::cpu
