// SPDX-License-Identifier: Apache-2.0
#include "ops/sort.hpp"

#include <algorithm>
#include <bit>
#include <limits>

#include "backends/cuda/convert.cuh"
#include "backends/cuda/launch.cuh"
#include "backends/cuda/radix_sort.hpp"
#include "core/scratch.hpp"

namespace mahia::cuda {
namespace {

constexpr int threads = 256;
constexpr unsigned no_index = 0xffffffffu;
constexpr int64_t few = 8;            // up to so many are picked one after another
constexpr int64_t warp_row = 256;     // a row whose numbers one warp holds while it picks
constexpr int64_t ranked_row = 1024;  // a row that is sorted by counting
constexpr int64_t batch = 1LL << 26;  // elements of longer rows that are sorted at once

// Unsigned numbers in the order of the values: NaN above all, both zeros equal.
__device__ inline uint32_t ordered(float x) {
  if (x != x) return ~uint32_t{0};
  const uint32_t bits = __float_as_uint(x == 0 ? 0.0f : x);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ inline uint64_t ordered(double x) {
  if (x != x) return ~uint64_t{0};
  const auto bits = static_cast<uint64_t>(__double_as_longlong(x == 0 ? 0.0 : x));
  return bits >> 63 ? ~bits : bits | uint64_t{1} << 63;
}
__device__ inline uint32_t ordered(bfloat16 x) { return ordered(widen(x)); }
__device__ inline uint64_t ordered(int64_t x) {
  return static_cast<uint64_t>(x) ^ uint64_t { 1 } << 63;
}
__device__ inline uint32_t ordered(int32_t x) { return static_cast<uint32_t>(x) ^ 0x80000000u; }
__device__ inline uint32_t ordered(uint8_t x) { return x; }
__device__ inline uint32_t ordered(bool x) { return x; }

template <class X>
using Key = decltype(ordered(X()));

template <class X>
__device__ Key<X> key_of(X x, bool descending) {
  return descending ? ~ordered(x) : ordered(x);
}

template <class K>
struct Item {
  K key;
  unsigned index;
};

template <class K>
__device__ bool before(const Item<K>& a, const Item<K>& b) {
  return a.key < b.key || (a.key == b.key && a.index < b.index);
}

// Behind every element of a row.
template <class K>
__device__ Item<K> no_item() {
  return {static_cast<K>(~K{0}), no_index};
}

// The first item of a warp's, for every lane.
template <class K>
__device__ Item<K> first_of_warp(Item<K> item) {
  if constexpr (sizeof(K) == 4) {
    const unsigned key = __reduce_min_sync(all_lanes, item.key);
    return {key, __reduce_min_sync(all_lanes, item.key == key ? item.index : no_index)};
  } else {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
      const Item<K> other{__shfl_xor_sync(all_lanes, item.key, step), __shfl_xor_sync(all_lanes, item.index, step)};
      if (before(other, item)) item = other;
    }
    return item;
  }
}

// One warp for a row of n <= 32 Items elements, read once; k <= 32 rounds, each for the next in order.
template <class X, int Items>
__global__ void __launch_bounds__(threads)
    pick_by_warp(const X* x, int64_t* indices, int64_t rows, unsigned n, unsigned k, bool descending) {
  using K = Key<X>;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (threads / 32) + threadIdx.x / 32;
  const unsigned lane = threadIdx.x % 32;
  if (row >= rows) return;
  Item<K> items[Items];
#pragma unroll
  for (int i = 0; i < Items; ++i) {
    const unsigned index = lane + 32 * static_cast<unsigned>(i);
    items[i] = index < n ? Item<K>{key_of(x[row * n + index], descending), index} : no_item<K>();
  }
  Item<K> last = no_item<K>();
  unsigned mine = 0;
  for (unsigned j = 0; j < k; ++j) {
    Item<K> best = no_item<K>();
#pragma unroll
    for (int i = 0; i < Items; ++i) {
      if ((j == 0 || before(last, items[i])) && before(items[i], best)) best = items[i];
    }
    last = first_of_warp(best);
    if (lane == j) mine = last.index;
  }
  if (lane < k) indices[row * k + lane] = mine;
}

// One block for a row, which is read k times.
template <class X>
__global__ void __launch_bounds__(1024)
    pick_by_block(const X* x, int64_t* indices, unsigned n, unsigned k, bool descending) {
  using K = Key<X>;
  __shared__ Item<K> firsts[32];
  const int64_t row = blockIdx.x;
  const X* from = x + row * n;
  Item<K> last = no_item<K>();
  for (unsigned j = 0; j < k; ++j) {
    Item<K> best = no_item<K>();
#pragma unroll 4
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x) {
      const Item<K> item{key_of(from[i], descending), i};
      if ((j == 0 || before(last, item)) && before(item, best)) best = item;
    }
    best = first_of_warp(best);
    if (threadIdx.x % 32 == 0) firsts[threadIdx.x / 32] = best;
    __syncthreads();
    last = firsts[0];
    for (unsigned w = 1; w < blockDim.x / 32; ++w) last = before(firsts[w], last) ? firsts[w] : last;
    __syncthreads();
    if (threadIdx.x == 0) indices[row * k + j] = last.index;
  }
}

// An element's place is the number of elements before it: n^2 comparisons a row, n <= ranked_row.
template <class X>
__global__ void __launch_bounds__(ranked_row)
    rank_rows(const X* x, int64_t* indices, int64_t rows, unsigned n, unsigned k, bool descending) {
  using K = Key<X>;
  __shared__ K keys[ranked_row];
  const unsigned i = threadIdx.x;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    if (i < n) keys[i] = key_of(x[row * n + i], descending);
    __syncthreads();
    if (i < n) {
      const Item<K> mine{keys[i], i};
      unsigned place = 0;
#pragma unroll 8
      for (unsigned j = 0; j < n; ++j) place += before(Item<K>{keys[j], j}, mine) ? 1 : 0;
      if (place < k) indices[row * k + place] = i;
    }
    __syncthreads();
  }
}

// 32 bits of the keys of the elements in the order so far; `begins`: in the order in which they lie.
template <class X>
__global__ void __launch_bounds__(threads)
    key_words(const X* x, unsigned* order, unsigned* words, int64_t count, int shift, bool descending, bool begins) {
  const int64_t i = thread_number();
  if (i >= count) return;
  if (begins) order[i] = static_cast<unsigned>(i);
  words[i] = static_cast<unsigned>(key_of(x[begins ? i : order[i]], descending) >> shift);
}

__global__ void __launch_bounds__(threads)
    row_words(const unsigned* order, unsigned* words, int64_t count, unsigned n) {
  const int64_t i = thread_number();
  if (i < count) words[i] = order[i] / n;
}

__global__ void __launch_bounds__(threads)
    write_first(const unsigned* order, int64_t* indices, int64_t count, unsigned n, unsigned k) {
  const int64_t i = thread_number();
  if (i >= count) return;
  const auto row = static_cast<unsigned>(i / k), j = static_cast<unsigned>(i % k);
  indices[i] = order[row * n + j] - row * n;
}

// A stable sort of whole rows by 32 bits at a time, the least significant first and the row's number last.
class LongSort {
 public:
  LongSort(Device device, int64_t capacity)
      : device_(device), numbers_(device, static_cast<size_t>(capacity) * 4 * sizeof(unsigned)) {
    words_ = numbers_.data<unsigned>();
    sorted_words_ = words_ + capacity;
    order_ = sorted_words_ + capacity;
    sorted_order_ = order_ + capacity;
  }

  template <class X>
  void sort(const X* x, int64_t rows, unsigned n, unsigned k, bool descending, int64_t* indices) {
    const int64_t count = rows * n;
    constexpr int words = sizeof(Key<X>) / 4, begin = std::is_same_v<X, bfloat16> ? 16 : 0;
    for (int word = 0; word < words; ++word) {
      launch(key_words<X>, device_, blocks_for(count, threads), threads, 0, x, order_, words_, count, 32 * word,
             descending, word == 0);
      sort_by_words(count, begin, sizeof(X) == 1 ? 8 : 32);
    }
    if (rows > 1) {
      launch(row_words, device_, blocks_for(count, threads), threads, 0, order_, words_, count, n);
      sort_by_words(count, 0, std::bit_width(static_cast<unsigned>(rows - 1)));
    }
    launch(write_first, device_, blocks_for(rows * k, threads), threads, 0, order_, indices, rows * k, n, k);
  }

 private:
  void sort_by_words(int64_t count, int begin_bit, int end_bit) {
    radix_sort(device_, {words_, order_}, {sorted_words_, sorted_order_}, static_cast<unsigned>(count), begin_bit,
               end_bit);
    std::swap(order_, sorted_order_);
  }

  Device device_;
  Scratch numbers_;
  unsigned *words_, *sorted_words_, *order_, *sorted_order_;
};

template <class X>
void sort_long(const X* x, int64_t* indices, int64_t rows, unsigned n, unsigned k, bool descending, Device device) {
  const int64_t at_once = std::clamp<int64_t>(batch / n, 1, rows);
  LongSort rows_sort(device, at_once * n);
  for (int64_t row = 0; row < rows; row += at_once) {
    rows_sort.sort(x + row * n, std::min(at_once, rows - row), n, k, descending, indices + row * k);
  }
}

void sort(ConstView x, View indices, bool descending) {
  const int64_t rows = x.size(0);
  check<ValueError>(x.size(1) <= std::numeric_limits<int32_t>::max(), "sort: rows of more than 2^31 elements: ", x);
  const auto n = static_cast<unsigned>(x.size(1)), k = static_cast<unsigned>(indices.size(1));
  const Device device = x.device();
  int64_t* to = indices.data<int64_t>();
  visit_number(x.dtype(), [&]<class X>() {
    const X* from = x.data<X>();
    if (k <= few && n <= warp_row) {
      launch(n <= 64 ? pick_by_warp<X, 2> : pick_by_warp<X, warp_row / 32>, device, blocks_for(rows, threads / 32),
             threads, 0, from, to, rows, n, k, descending);
    } else if (k <= few) {
      launch(pick_by_block<X>, device, blocks_for(rows, 1), n <= 4096 ? threads : 1024, 0, from, to, n, k, descending);
    } else if (n <= ranked_row) {
      launch(rank_rows<X>, device, static_cast<unsigned>(std::min<int64_t>(rows, 1 << 30)), ceil_div(n, 32) * 32, 0,
             from, to, rows, n, k, descending);
    } else {
      sort_long(from, to, rows, n, k, descending, device);
    }
  });
}

const Registered registered_sort(DeviceType::cuda, kernels::sort, sort);

}  // namespace
}  // namespace mahia::cuda
