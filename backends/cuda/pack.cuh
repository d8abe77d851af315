// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "backends/cuda/convert.cuh"

namespace mahia::cuda {

// V neighbours that one instruction reads or writes, 16 bytes at the most.
template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T values[V];
};

inline bool is_aligned(const void* data, size_t bytes) { return reinterpret_cast<uintptr_t>(data) % bytes == 0; }

template <class To, class From, int V>
__device__ inline Pack<To, V> converted(const Pack<From, V>& x) {
  Pack<To, V> y;
#pragma unroll
  for (int k = 0; k < V; ++k) y.values[k] = convert<To>(x.values[k]);
  return y;
}

// In one access where x is aligned.
template <int V, class X>
__device__ inline Pack<X, V> load_pack(const X* x, bool aligned) {
  if (aligned) return *reinterpret_cast<const Pack<X, V>*>(x);
  Pack<X, V> pack;
#pragma unroll
  for (int k = 0; k < V; ++k) pack.values[k] = x[k];
  return pack;
}

// Of x only `left` elements are there: the others read as zero and are not written.
template <int V, class X>
__device__ inline Pack<X, V> load_pack(const X* x, int64_t left, bool aligned) {
  if (aligned && left >= V) return *reinterpret_cast<const Pack<X, V>*>(x);
  Pack<X, V> pack;
#pragma unroll
  for (int k = 0; k < V; ++k) pack.values[k] = k < left ? x[k] : X{};
  return pack;
}

template <int V, class X>
__device__ inline void store_pack(X* x, int64_t left, bool aligned, const Pack<X, V>& pack) {
  if (aligned && left >= V) {
    *reinterpret_cast<Pack<X, V>*>(x) = pack;
    return;
  }
#pragma unroll
  for (int k = 0; k < V; ++k) {
    if (k < left) x[k] = pack.values[k];
  }
}

// The same for whole packs in the type of computation.
template <int V, class S, class X>
__device__ inline void load_values(const X* x, bool aligned, S (&values)[V]) {
  const Pack<X, V> pack = load_pack<V>(x, aligned);
#pragma unroll
  for (int k = 0; k < V; ++k) values[k] = convert<S>(pack.values[k]);
}

template <int V, class S, class X>
__device__ inline void store_values(X* x, bool aligned, const S (&values)[V]) {
  Pack<X, V> pack;
#pragma unroll
  for (int k = 0; k < V; ++k) pack.values[k] = convert<X>(values[k]);
  store_pack(x, V, aligned, pack);
}

// Calls fn.template operator()<X, V>() for rows of n elements: V elements make 16 bytes where n and the addresses
// allow.
template <class Fn>
void visit_packs(DType dtype, int64_t n, bool aligned, Fn&& fn) {
  visit_float(dtype, [&]<class X>() {
    constexpr int v = static_cast<int>(16 / sizeof(X));
    aligned&& n % v == 0 ? fn.template operator()<X, v>() : fn.template operator()<X, 1>();
  });
}

}  // namespace mahia::cuda
