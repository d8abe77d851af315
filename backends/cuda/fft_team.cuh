// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cuda/fft_split.cuh"

// Transforms of one row in the registers of a team of threads, which exchange numbers through shared memory between two
// or three passes. A pass splits nodes into 8, 16 or 32: exchanges cost more than the registers.
namespace mahia::cuda {

template <int log_n>
struct FftShape {
  static constexpr int n = 1 << log_n;
  static constexpr int passes = log_n > 10 ? 3 : 2;
  static constexpr int bits_of_first = log_n == 6 ? 3 : log_n <= 8 ? 4 : 5;
  static constexpr int held = 1 << bits_of_first;  // numbers of a thread
  static constexpr int threads = n / held;         // of a team
  static constexpr int block = threads < 128 ? 128 : threads;
  static constexpr int teams = block / threads;  // of a block

  static constexpr int bits(int pass) {
    constexpr int left = log_n - bits_of_first, of_second = passes == 2 ? left : (left + 1) / 2;
    return pass == 0 ? bits_of_first : pass == 1 ? of_second : left - of_second;
  }
  static constexpr int depth(int pass) {
    int depth = 0;
    for (int p = 0; p < pass; ++p) depth += bits(p);
    return depth;
  }
  static constexpr int leg(int pass) { return n >> depth(pass + 1); }  // between the numbers of one thread

  // One place in 16 or 32 of the shared memory stays free, so that threads at a distance of 2^bits meet no bank twice.
  static constexpr int pad_bits = bits(passes - 1) == 5 ? 5 : 4;
  static constexpr int padded(int place) { return place + (place >> pad_bits); }
  static constexpr int places = padded(n);

  // So that registers hold what a multiprocessor works on: a thread may have 128, or 96 and more.
  static constexpr int blocks_per_multiprocessor = (held == 32 ? 512 : 640) / block;
};

// `whole`: complex numbers are exchanged at once, in twice the memory; else real and imaginary parts in turn.
template <int log_n, bool whole>
class FftTeam {
 public:
  using Shape = FftShape<log_n>;
  static constexpr int held = Shape::held, threads = Shape::threads;
  using Numbers = Complex[held];
  static constexpr size_t shared_bytes = Shape::places * (whole ? sizeof(Complex) : sizeof(float));

  // `shared`: shared_bytes for this team, 16-byte aligned. All threads of the block take part in each transform.
  __device__ FftTeam(void* shared, const FftRootPair* tree)
      : shared_(shared), tree_(tree), lane_(static_cast<int>(threadIdx.x) % threads) {}

  __device__ int lane() const { return lane_; }
  // The same team, but the compiler does not know: what it has computed from the lane, as addresses and roots, it
  // computes again instead of keeping it in registers that the numbers need.
  __device__ __forceinline__ FftTeam afresh() const {
    FftTeam team = *this;
    asm volatile("" : "+r"(team.lane_));
    return team;
  }
  // Where number i of this thread belongs in a row of n: neighbouring threads have neighbours.
  __device__ int place(int i) const { return lane_ + i * threads; }

  // The real part of x[i] is coefficient place(i), a real number; afterwards x are values at roots, in an order of
  // their own.
  __device__ __forceinline__ void forward(Numbers& x) const {
    split_node<Shape::bits(0), 0, true>(x, TopRoots());
    unrolled<Shape::passes - 1>([&](auto pass) {
      exchange<pass, pass + 1>(x);
      for_nodes<pass + 1>(
          [&](auto first, const auto& roots) { split_node<Shape::bits(pass + 1), first, false>(x, roots); });
    });
  }

  // The way back, times n, for the real parts alone.
  __device__ __forceinline__ void inverse(Numbers& x) const {
    unrolled<Shape::passes - 1>([&](auto done) {
      constexpr int pass = Shape::passes - 1 - done;
      for_nodes<pass>([&](auto first, const auto& roots) { join_node<Shape::bits(pass), first, false>(x, roots); });
      exchange<pass, pass - 1>(x);
    });
    join_node<Shape::bits(0), 0, true>(x, TopRoots());
  }

 private:
  // Waits for the team; with it for the warp or block.
  __device__ void wait() const {
    if constexpr (threads <= 32) {
      __syncwarp();
    } else {
      __syncthreads();
    }
  }

  // In a pass a thread has one or more groups of 2^bits numbers, a leg apart. Which node group k is of, and its first.
  template <int pass>
  __device__ int node(int k) const {
    return place(k) / Shape::leg(pass);
  }
  template <int pass>
  __device__ int start(int k) const {
    constexpr int leg = Shape::leg(pass);
    return node<pass>(k) * (leg << Shape::bits(pass)) + place(k) % leg;
  }

  template <int pass, class Body>
  __device__ __forceinline__ void for_nodes(const Body& body) const {
    constexpr int bits = Shape::bits(pass), depth = Shape::depth(pass);
    const FftTeam team = afresh();
    unrolled<(held >> bits)>([&](auto k) {
      const NodeRoots<bits> roots(tree_, depth, team.template node<pass>(k));
      body(std::integral_constant<int, (k << bits)>(), roots);
    });
  }

  // Calls body(number, its place in shared memory) as pass `pass` has them.
  template <int pass, class Body>
  __device__ __forceinline__ void for_places(const Body& body) const {
    constexpr int bits = Shape::bits(pass);
    const FftTeam team = afresh();
    unrolled<(held >> bits)>([&](auto k) {
      const int base = Shape::padded(team.template start<pass>(k));
      unrolled<(1 << bits)>([&](auto i) { body((k << bits) + i, base + Shape::padded(i * Shape::leg(pass))); });
    });
  }

  // From where pass `from` has the numbers to where pass `to` wants them.
  template <int from, int to>
  __device__ __forceinline__ void exchange(Numbers& x) const {
    if constexpr (whole) {
      auto* shared = static_cast<Complex*>(shared_);
      wait();
      for_places<from>([&](int i, int place) { shared[place] = x[i]; });
      wait();
      for_places<to>([&](int i, int place) { x[i] = shared[place]; });
    } else {
      exchange_part<from, to>(x, &Complex::re);
      exchange_part<from, to>(x, &Complex::im);
    }
  }
  template <int from, int to>
  __device__ __forceinline__ void exchange_part(Numbers& x, float Complex::*part) const {
    auto* shared = static_cast<float*>(shared_);
    wait();
    for_places<from>([&](int i, int place) { shared[place] = x[i].*part; });
    wait();
    for_places<to>([&](int i, int place) { x[i].*part = shared[place]; });
  }

  void* shared_;
  const FftRootPair* tree_;
  int lane_;
};

}  // namespace mahia::cuda
