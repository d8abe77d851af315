// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <type_traits>
#include <utility>

#include "backends/cuda/fft_roots.cuh"
#include "backends/cuda/math.cuh"

// The splits of one node of the tree into 2^levels, in registers. Every product is rounded where it is written or fused
// as written, so that a row has the same bits in whichever kernel it is transformed.
namespace mahia::cuda {

// Calls body(integral constant) for 0 ... count - 1.
template <int count, class Body>
__device__ __forceinline__ void unrolled(const Body& body) {
  [&]<int... i>(std::integer_sequence<int, i...>) { (body(std::integral_constant<int, i>()), ...); }
  (std::make_integer_sequence<int, count>());
}

__device__ __forceinline__ Complex times(Complex a, Complex b) {
  return {fmaf(a.re, b.re, -rounded_product(a.im, b.im)), fmaf(a.re, b.im, rounded_product(a.im, b.re))};
}
__device__ __forceinline__ Complex conj_times(Complex a, Complex b) {  // conj(a) b
  return {fmaf(a.re, b.re, rounded_product(a.im, b.im)), fmaf(a.re, b.im, -rounded_product(a.im, b.re))};
}
__device__ __forceinline__ Complex plus_conj_times(Complex sum, Complex a, Complex b) {
  return {fmaf(a.im, b.im, fmaf(a.re, b.re, sum.re)), fmaf(-a.im, b.re, fmaf(a.re, b.im, sum.im))};
}
__device__ __forceinline__ Complex times_minus_i(Complex a) { return {a.im, -a.re}; }

// (a, b) -> (a + s b, a - s b)
__device__ __forceinline__ void split(Complex& a, Complex& b, Complex s) {
  const Complex sum = {fmaf(-s.im, b.im, fmaf(s.re, b.re, a.re)), fmaf(s.im, b.re, fmaf(s.re, b.im, a.im))};
  b = {fmaf(s.im, b.im, fmaf(-s.re, b.re, a.re)), fmaf(-s.im, b.re, fmaf(-s.re, b.im, a.im))};
  a = sum;
}

// Twice the inverse: (a, b) -> (a + b, (a - b) / s)
__device__ __forceinline__ void join(Complex& a, Complex& b, Complex s) {
  const Complex difference = {a.re - b.re, a.im - b.im};
  a = {a.re + b.re, a.im + b.im};
  b = conj_times(s, difference);
}

// The same at the root of the tree, s = exp(-i pi / 4), where a and b are real: only re is read or written.
inline constexpr float sqrt_half = unit_root(1, 8).re;
__device__ __forceinline__ void split_real(Complex& a, Complex& b) {
  const float product = rounded_product(sqrt_half, b.re), first = a.re;
  a = {fmaf(sqrt_half, b.re, first), -product};
  b = {fmaf(-sqrt_half, b.re, first), product};
}
__device__ __forceinline__ void join_real(Complex& a, Complex& b) {
  const float difference = (a.re - b.re) - (a.im - b.im);
  a.re += b.re;
  b.re = rounded_product(sqrt_half, difference);
}

// The numbers s of a node and, for five levels, of its two children: at<level, turns>().
template <int bits>
struct NodeRoots {
  static constexpr int pairs = bits == 3 ? 2 : 4;
  FftRootPair of_node[pairs], of_children[2][2];

  __device__ __forceinline__ NodeRoots(const FftRootPair* tree, int depth, int node) {
#pragma unroll
    for (int i = 0; i < pairs; ++i) of_node[i] = loaded(tree + fft_pair_index(depth, node, i));
    if constexpr (bits == 5) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        of_children[i / 2][i % 2] = loaded(tree + fft_pair_index(depth + 1, 2 * node + i / 2, 2 + i % 2));
      }
    }
  }
  template <int level, int turns>
  __device__ __forceinline__ Complex at() const {
    constexpr int i = fft_root_index(level, turns);
    if constexpr (level < 4) return of_node[i / 2].root[i % 2];
    return of_children[turns % 2][turns / 4].root[turns / 2 % 2];
  }

 private:
  __device__ __forceinline__ static FftRootPair loaded(const FftRootPair* pair) {
    const float4 x = __ldg(reinterpret_cast<const float4*>(pair));
    return {{{x.x, x.y}, {x.z, x.w}}};
  }
};
struct TopRoots {
  template <int level, int turns>
  __device__ __forceinline__ Complex at() const {
    constexpr Complex root = unit_root(4 * turns + 1, int64_t{8} << level);
    return root;
  }
};

// Calls body(a, b, s) for the pairs of one level: pairs `reach` apart, descendants 2 j and 2 j + 1 of the node.
template <int bits, int level, int first, int size, class Roots, class Body>
__device__ __forceinline__ void for_pairs(Complex (&x)[size], const Roots& roots, const Body& body) {
  constexpr int reach = 1 << (bits - 1 - level);
  unrolled<(1 << level) / 2 + (level == 0)>([&](auto j) {
    const Complex even = roots.template at<level, reversed_bits(2 * j, level)>();
    const Complex odd = times_minus_i(even);
    constexpr int at = first + 4 * reach * j;
#pragma unroll
    for (int i = 0; i < reach; ++i) body(x[at + i], x[at + reach + i], even);
    if constexpr (level > 0) {
#pragma unroll
      for (int i = 0; i < reach; ++i) body(x[at + 2 * reach + i], x[at + 3 * reach + i], odd);
    }
  });
}

// The 2^bits numbers x[first], ...: from one node's to its descendants', and back times 2^bits.
template <int bits, int first, bool real, int size, class Roots>
__device__ __forceinline__ void split_node(Complex (&x)[size], const Roots& roots) {
  unrolled<bits>([&](auto level) {
    for_pairs<bits, level, first>(x, roots, [&](Complex& a, Complex& b, Complex s) {
      if constexpr (real && level == 0) {
        split_real(a, b);
      } else {
        split(a, b, s);
      }
    });
  });
}
template <int bits, int first, bool real, int size, class Roots>
__device__ __forceinline__ void join_node(Complex (&x)[size], const Roots& roots) {
  unrolled<bits>([&](auto up) {
    constexpr int level = bits - 1 - up;
    for_pairs<bits, level, first>(x, roots, [&](Complex& a, Complex& b, Complex s) {
      if constexpr (real && level == 0) {
        join_real(a, b);
      } else {
        join(a, b, s);
      }
    });
  });
}

}  // namespace mahia::cuda
