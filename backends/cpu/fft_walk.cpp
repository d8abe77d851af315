// SPDX-License-Identifier: Apache-2.0
#include "backends/cpu/fft_walk.hpp"

namespace mahia::cpu {
namespace {

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
void split_block(const FftBlock<T>& block, Complex<T>* x) {
  constexpr int width = FftBlock<T>::width;
  Complex<T> t[width], y[width], z[width];
  load_twiddles<width>(block.across, t);
  Butterfly<width>::split(x, t, y);
  transpose_block(y);
  Butterfly<width>::split(y, block.lanes, z);
  for (int k = 0; k < width; ++k) x[k] = z[k];
}

template <class T>
void merge_block(const FftBlock<T>& block, Complex<T>* x) {
  constexpr int width = FftBlock<T>::width;
  Complex<T> t[width], y[width], z[width];
  load_twiddles<width>(block.across, t);
  Butterfly<width>::merge(x, block.lanes, y);
  transpose_block(y);
  Butterfly<width>::merge(y, t, z);
  for (int k = 0; k < width; ++k) x[k] = z[k];
}

template <class T>
struct Walk {
  const FftPlan<T>& plan;
  std::initializer_list<Complex<T>*> split;
  Complex<T>* merged;
  const RangeBody& leaf;

  void children(size_t depth, int64_t node, int64_t begin) const {
    const FftPass<T>& pass = plan.passes[depth];
    const bool at_bottom = depth + 1 == plan.passes.size();
    for (int k = 0; k < pass.radix; ++k) {
      const int64_t child = node * pass.radix + k, first = begin + k * pass.leg;
      at_bottom ? visit_block(child, first) : visit(depth + 1, child, first);
    }
  }

  void visit(size_t depth, int64_t node, int64_t begin) const {
    switch (plan.passes[depth].radix) {
      case 2:
        return visit_node<2>(depth, node, begin);
      case 3:
        return visit_node<3>(depth, node, begin);
      case 4:
        return visit_node<4>(depth, node, begin);
      case 5:
        return visit_node<5>(depth, node, begin);
      case 8:
        return visit_node<8>(depth, node, begin);
      default:
        return children(depth, node, begin);
    }
  }

  template <int R>
  void visit_node(size_t depth, int64_t node, int64_t begin) const {
    const FftPass<T>& pass = plan.passes[depth];
    for (Complex<T>* array : split) {
      Complex<T>* const x = array + begin;
      split_node<R>(pass, node, x, [x](int64_t i) { return x[i]; });
    }
    children(depth, node, begin);
    if (merged == nullptr) return;
    Complex<T>* const x = merged + begin;
    merge_node<R>(pass, node, x, [x](int64_t i, Complex<T> value) { x[i] = value; });
  }

  void visit_block(int64_t block, int64_t begin) const {
    const FftBlock<T>& twiddles = plan.blocks[static_cast<size_t>(block)];
    for (Complex<T>* array : split) split_block(twiddles, array + begin);
    leaf(begin, begin + FftBlock<T>::width);
    if (merged != nullptr) merge_block(twiddles, merged + begin);
  }
};

}  // namespace

template <class T>
void walk(const FftPlan<T>& plan, std::initializer_list<Complex<T>*> split, Complex<T>* merged, RangeBody leaf) {
  Walk<T>{plan, split, merged, leaf}.children(0, 0, 0);
}

template <class T>
void walk_from_root(const FftPlan<T>& plan, std::initializer_list<Complex<T>*> split, Complex<T>* merged,
                    RangeBody leaf) {
  Walk<T>{plan, split, merged, leaf}.visit(0, 0, 0);
}

template void walk(const FftPlan<float>&, std::initializer_list<Complex<float>*>, Complex<float>*, RangeBody);
template void walk(const FftPlan<double>&, std::initializer_list<Complex<double>*>, Complex<double>*, RangeBody);
template void walk_from_root(const FftPlan<float>&, std::initializer_list<Complex<float>*>, Complex<float>*, RangeBody);
template void walk_from_root(const FftPlan<double>&, std::initializer_list<Complex<double>*>, Complex<double>*,
                             RangeBody);

}  // namespace mahia::cpu
