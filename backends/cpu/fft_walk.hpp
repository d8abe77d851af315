// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cpu/fft_plan.hpp"

namespace mahia::cpu {

// The twiddles of node `node` of a pass, in all lanes.
template <int R, class T>
[[gnu::always_inline]] inline void load_twiddles(const T* scalars, Complex<T>* t) {
  for (int m = 0; m < twiddle_count<R>; ++m) t[m] = {Lanes<T>::all(scalars[2 * m]), Lanes<T>::all(scalars[2 * m + 1])};
}

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

template <class T>
[[gnu::always_inline]] inline void transpose_block(Complex<T>* x) {
  constexpr int width = FftBlock<T>::width;
  Vec<T> re[width], im[width];
  for (int k = 0; k < width; ++k) re[k] = x[k].re;
  transpose(re);
  for (int k = 0; k < width; ++k) im[k] = x[k].im;
  transpose(im);
  for (int k = 0; k < width; ++k) x[k] = {re[k], im[k]};
}

template <class T>
[[gnu::always_inline]] inline void split_block(const FftBlock<T>& block, Complex<T>* x) {
  constexpr int width = FftBlock<T>::width;
  Complex<T> t[width], y[width], z[width];
  load_twiddles<width>(block.across, t);
  Butterfly<width>::split(x, t, y);
  transpose_block(y);
  Butterfly<width>::split(y, block.lanes, z);
  for (int k = 0; k < width; ++k) x[k] = z[k];
}

template <class T>
[[gnu::always_inline]] inline void merge_block(const FftBlock<T>& block, Complex<T>* x) {
  constexpr int width = FftBlock<T>::width;
  Complex<T> t[width], y[width], z[width];
  load_twiddles<width>(block.across, t);
  Butterfly<width>::merge(x, block.lanes, y);
  transpose_block(y);
  Butterfly<width>::merge(y, t, z);
  for (int k = 0; k < width; ++k) x[k] = z[k];
}

// Walks the tree depth first, so that a long row is worked off in pieces that fit the caches. On the way down the first
// `splits` arrays of x are split; at the bottom leaf(i) sees the finished block of vectors [i, i + width); on the way
// up x[0] is merged if `merges`.
template <int splits, bool merges, class T, class Leaf>
class FftWalk {
 public:
  FftWalk(const FftPlan<T>& plan, Complex<T>* const* x, Leaf& leaf) : plan_(plan), x_(x), leaf_(leaf) {}

  // All below the root.
  void children(size_t depth = 0, int64_t node = 0, int64_t begin = 0) {
    const FftPass<T>& pass = plan_.passes[depth];
    for (int k = 0; k < pass.radix; ++k) {
      if (depth + 1 == plan_.passes.size()) {
        block(node * pass.radix + k, begin + k * pass.leg);
      } else {
        visit(depth + 1, node * pass.radix + k, begin + k * pass.leg);
      }
    }
  }

  // A node and all below.
  void visit(size_t depth, int64_t node, int64_t begin) {
    switch (plan_.passes[depth].radix) {
      case 2:
        return visit<2>(depth, node, begin);
      case 3:
        return visit<3>(depth, node, begin);
      case 4:
        return visit<4>(depth, node, begin);
      case 5:
        return visit<5>(depth, node, begin);
      case 8:
        return visit<8>(depth, node, begin);
      default:
        return children(depth, node, begin);
    }
  }

 private:
  template <int R>
  void visit(size_t depth, int64_t node, int64_t begin) {
    const FftPass<T>& pass = plan_.passes[depth];
    for (int n = 0; n < splits; ++n) {
      Complex<T>* x = x_[n] + begin;
      split_node<R>(pass, node, x, [x](int64_t i) { return x[i]; });
    }
    children(depth, node, begin);
    if constexpr (merges) {
      Complex<T>* x = x_[0] + begin;
      merge_node<R>(pass, node, x, [x](int64_t i, Complex<T> value) { x[i] = value; });
    }
  }

  void block(int64_t index, int64_t begin) {
    const FftBlock<T>& twiddles = plan_.blocks[static_cast<size_t>(index)];
    for (int n = 0; n < splits; ++n) split_block(twiddles, x_[n] + begin);
    leaf_(begin);
    if constexpr (merges) merge_block(twiddles, x_[0] + begin);
  }

  const FftPlan<T>& plan_;
  Complex<T>* const* x_;
  Leaf& leaf_;
};

// The root's radix as a template argument of fn.
template <class T, class Fn>
void at_root(const FftPlan<T>& plan, Fn&& fn) {
  switch (plan.passes[0].radix) {
    case 1:
      return fn.template operator()<1>();
    case 2:
      return fn.template operator()<2>();
    case 3:
      return fn.template operator()<3>();
    case 4:
      return fn.template operator()<4>();
    case 5:
      return fn.template operator()<5>();
    default:
      return fn.template operator()<8>();
  }
}

// Splits the root while it reads a real row: source(t) gives elements [t, t + lanes).
template <class T, class Source>
void read_row(const FftPlan<T>& plan, Complex<T>* x, Source source) {
  at_root(plan, [&]<int R>() {
    split_node<R>(plan.passes[0], 0, x, [source](int64_t i) { return source(i * lane_count<T>); });
  });
}

// Merges the root while it writes a real row: sink(t, v) gets elements [t, t + lanes), `plan.size` times too large.
template <class T, class Sink>
void write_row(const FftPlan<T>& plan, const Complex<T>* x, Sink sink) {
  at_root(plan, [&]<int R>() {
    merge_node<R>(plan.passes[0], 0, x, [sink](int64_t i, Complex<T> value) { sink(i * lane_count<T>, value.re); });
  });
}

// Between read_row and write_row: all of the tree below the root.
template <int splits, bool merges, class T, class Leaf>
void walk(const FftPlan<T>& plan, std::initializer_list<Complex<T>*> x, Leaf leaf) {
  FftWalk<splits, merges, T, Leaf>(plan, x.begin(), leaf).children();
}

// The whole tree of complex numbers, in place: coefficients -> values at the roots, in the plan's order.
template <class T>
void transform(const FftPlan<T>& plan, Complex<T>* x) {
  const auto leaf = [](int64_t) {};
  FftWalk<1, false, T, decltype(leaf)>(plan, &x, leaf).visit(0, 0, 0);
}

}  // namespace mahia::cpu
