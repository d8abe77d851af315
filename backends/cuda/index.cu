// SPDX-License-Identifier: Apache-2.0
#include "ops/index.hpp"

#include <bit>

#include "backends/cuda/pack.cuh"
#include "backends/cuda/radix_sort.hpp"
#include "backends/cuda/row_grid.cuh"
#include "core/scratch.hpp"

namespace mahia::cuda {
namespace {

constexpr int threads = 256;
constexpr int64_t items_per_thread = 4;  // where rows are worked off in a RowGrid
// Positions of one row that are summed one after another; the sums of such chunks are then added in order.
constexpr int64_t chunk = 64;
// Up to so many positions, the owner of an element of gather's gradient looks through all of them.
constexpr int64_t few_positions = 256;

struct Split {
  int64_t quotient, rest;
};

__device__ Split split(int64_t i, int64_t by) {
  if (((i | by) >> 32) == 0) {
    const int64_t quotient = static_cast<unsigned>(i) / static_cast<unsigned>(by);
    return {quotient, i - quotient * by};
  }
  const int64_t quotient = i / by;
  return {quotient, i - quotient * by};
}

template <class I>
__device__ bool is_inside(I id, int64_t size) {
  return id >= 0 && static_cast<int64_t>(id) < size;
}

// The first place in ascending `numbers` that holds `value` or more.
__device__ unsigned lower_bound(const unsigned* numbers, unsigned count, unsigned value) {
  unsigned first = 0;
  while (count > 0) {
    const unsigned half = count / 2;
    if (numbers[first + half] < value) {
      first += half + 1;
      count -= half + 1;
    } else {
      count = half;
    }
  }
  return first;
}

// Which positions belong to each of the n rows: those of row r, ascending, lie at [starts[r], starts[r + 1]) of
// `positions`. Chunk j of row r has the slot starts[r] / chunk + r + j, so that rows never share one; `owners` holds
// the row of every slot. Partial sums exist only for rows of several chunks and begin at starts[r] / (chunk / 2).
struct Rows {
  unsigned *starts, *owners, *positions;
  int64_t n, k, inner, slots;
  __device__ int64_t slot(int64_t row) const { return starts[row] / chunk + row; }
  __device__ int64_t partial(int64_t outer, int64_t row, int64_t part) const {
    return (outer * (k / (chunk / 2) + 1) + starts[row] / (chunk / 2) + part) * inner;
  }
};

template <class I>
__global__ void __launch_bounds__(threads)
    check_ids(const I* ids, int64_t count, int64_t size, Fault* fault, int site) {
  const int64_t i = thread_number();
  if (i < count && !is_inside(ids[i], size)) set_fault(fault, FaultCode::index, site, i, ids[i], size);
}

// Rows of `units` units: y (outer, k) = x (outer, n) at ids (k). One read and one write of y.
template <class Unit, class I>
__global__ void __launch_bounds__(threads)
    copy_rows(const Unit* x, const I* ids, Unit* y, int64_t rows, int64_t n, int64_t k, int64_t units) {
  const int64_t row = row_of_thread();
  if (row >= rows) return;
  const auto [outer, position] = split(row, k);
  const I id = ids[position];
  if (!is_inside(id, n)) return;
  const Unit* from = x + (outer * n + id) * units;
  for (int64_t c = first_item(); c < units; c += item_step()) y[row * units + c] = from[c];
}

template <class Unit, class I>
__global__ void __launch_bounds__(threads)
    gather_elements(const Unit* x, const I* ids, Unit* y, int64_t total, int64_t n, int64_t k, int64_t inner) {
  const int64_t i = thread_number();
  if (i >= total) return;
  const auto [row, c] = split(i, inner);
  const int64_t outer = split(row, k).quotient;
  const I id = ids[i];
  if (is_inside(id, n)) y[i] = x[(outer * n + id) * inner + c];
}

// One thread for an element of dx (outer, n, inner) looks for itself among the k indices of its column.
template <class X, class I>
__global__ void __launch_bounds__(threads)
    gather_grad_few(const I* ids, const X* dy, X* dx, int64_t total, int64_t n, int64_t k, int64_t inner) {
  const int64_t i = thread_number();
  if (i >= total) return;
  const auto [row, c] = split(i, inner);
  const auto [outer, id] = split(row, n);
  compute_t<X> sum = 0;
  int64_t at = outer * k * inner + c;
  for (int64_t j = 0; j < k; ++j, at += inner) {
    if (static_cast<int64_t>(ids[at]) == id) sum += convert<compute_t<X>>(dy[at]);
  }
  dx[i] = convert<X>(sum);
}

// One warp for a column (outer, inner) takes 32 positions at a time: the first lane of those with one index adds their
// values up in order. `sums` has dx's shape and may be dx.
template <class X, class I, class S = compute_t<X>>
__global__ void __launch_bounds__(threads)
    gather_grad_many(const I* ids, const X* dy, S* sums, X* dx, int64_t columns, int64_t n, int64_t k, int64_t inner) {
  const int64_t column = thread_number() / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (column >= columns) return;
  const auto [outer, c] = split(column, inner);
  const int64_t from = outer * k * inner + c, to = outer * n * inner + c;
  for (int64_t row = lane; row < n; row += 32) sums[to + row * inner] = 0;
  __syncwarp();
  for (int64_t first = 0; first < k; first += 32) {
    const int64_t at = from + (first + lane) * inner;
    long long id = first + lane < k ? static_cast<long long>(ids[at]) : -1;
    if (!is_inside(id, n)) id = -1;
    const S value = id < 0 ? S(0) : convert<S>(dy[at]);
    const unsigned peers = __match_any_sync(all_lanes, id);
    S sum = value;
    unsigned later = id < 0 ? 0 : peers & ~(2 * (1u << lane) - 1);
    while (__any_sync(all_lanes, later != 0)) {
      const S next = __shfl_sync(all_lanes, value, later == 0 ? lane : __ffs(later) - 1);
      if (later != 0) sum += next;
      later &= later - 1;
    }
    if (id >= 0 && __ffs(peers) - 1 == lane) sums[to + id * inner] += sum;
    __syncwarp();
  }
  for (int64_t row = lane; row < n; row += 32) dx[to + row * inner] = convert<X>(sums[to + row * inner]);
}

template <class I>
__global__ void __launch_bounds__(threads)
    count_ids(const I* ids, int64_t count, unsigned long long* counts, int64_t n) {
  const int64_t i = thread_number();
  if (i < count && is_inside(ids[i], n)) atomicAdd(counts + ids[i], 1ULL);
}

// The row of each position, n where there is none: what the sort begins with.
template <class I>
__global__ void __launch_bounds__(threads)
    number_positions(const I* ids, unsigned k, unsigned n, unsigned* rows, unsigned* positions) {
  const int64_t i = thread_number();
  if (i >= k) return;
  rows[i] = is_inside(ids[i], n) ? static_cast<unsigned>(ids[i]) : n;
  positions[i] = static_cast<unsigned>(i);
}

__global__ void __launch_bounds__(threads) find_rows(const unsigned* sorted, Rows rows) {
  const int64_t row = thread_number();
  if (row >= rows.n) return;
  const auto key = static_cast<unsigned>(row), count = static_cast<unsigned>(rows.k);
  const unsigned first = lower_bound(sorted, count, key);
  const unsigned last = first + lower_bound(sorted + first, count - first, key + 1);
  rows.starts[row] = first;
  if (row + 1 == rows.n) rows.starts[rows.n] = last;
  for (int64_t slot = first / chunk + row; slot <= last / chunk + row; ++slot) rows.owners[slot] = key;
}

// source (outer, k, inner), y (outer, n, inner). A row of one chunk is done here.
template <class Y, int V>
__global__ void __launch_bounds__(threads)
    sum_chunks(const Rows rows, const Y* __restrict__ source, Y* y, compute_t<Y>* partials, int64_t outers) {
  using S = compute_t<Y>;
  const int64_t work = row_of_thread();
  if (work >= rows.slots * outers) return;
  const auto [outer, slot] = split(work, rows.slots);
  if (slot >= rows.slot(rows.n)) return;
  const int64_t row = rows.owners[slot], first = rows.starts[row], last = rows.starts[row + 1];
  const int64_t part = slot - rows.slot(row), begin = first + part * chunk;
  const int64_t end = begin + chunk < last ? begin + chunk : last;
  if (begin >= end) return;
  for (int64_t c = first_item() * V; c < rows.inner; c += item_step() * V) {
    const Y* from = source + outer * rows.k * rows.inner + c;
    S total[V] = {};
#pragma unroll 4
    for (int64_t p = begin; p < end; ++p) {
      const auto add = *reinterpret_cast<const Pack<Y, V>*>(from + rows.positions[p] * rows.inner);
      for (int v = 0; v < V; ++v) total[v] += convert<S>(add.values[v]);
    }
    if (last - first > chunk) {
      S* to = partials + rows.partial(outer, row, part) + c;
      for (int v = 0; v < V; ++v) to[v] = total[v];
    } else {
      auto& to = *reinterpret_cast<Pack<Y, V>*>(y + (outer * rows.n + row) * rows.inner + c);
      Pack<Y, V> sum = to;
      for (int v = 0; v < V; ++v) sum.values[v] = convert<Y>(convert<S>(sum.values[v]) + total[v]);
      to = sum;
    }
  }
}

template <class Y>
__global__ void __launch_bounds__(threads)
    add_partials(const Rows rows, const compute_t<Y>* __restrict__ partials, Y* y, int64_t outers) {
  using S = compute_t<Y>;
  const int64_t work = row_of_thread();
  if (work >= rows.n * outers) return;
  const auto [outer, row] = split(work, rows.n);
  const int64_t held = rows.starts[row + 1] - rows.starts[row];
  if (held <= chunk) return;
  const S* from = partials + rows.partial(outer, row, 0);
  for (int64_t c = first_item(); c < rows.inner; c += item_step()) {
    S total = from[c];
#pragma unroll 8
    for (int64_t part = 1; part < (held + chunk - 1) / chunk; ++part) total += from[part * rows.inner + c];
    y[work * rows.inner + c] = convert<Y>(convert<S>(y[work * rows.inner + c]) + total);
  }
}

void check_index(ConstView index, const char* op, int64_t size) {
  const int64_t count = index.numel();
  visit_index(index.dtype(), [&]<class I>() {
    launch(check_ids<I>, index.device(), blocks_for(count, threads), threads, 0, index.data<I>(), count, size,
           fault_of(index.device()), fault_site(op));
  });
}

void index_select(ConstView x, ConstView index, View y) {
  const int64_t n = x.size(1), k = y.size(1), rows = y.size(0) * k;
  const size_t bytes = static_cast<size_t>(x.size(2)) * size_of(x.dtype());
  visit_unit(bytes, {x.raw(), y.raw()}, [&]<class Unit>() {
    const auto units = static_cast<int64_t>(bytes / sizeof(Unit));
    const RowGrid grid(rows, units, items_per_thread);
    visit_index(index.dtype(), [&]<class I>() {
      launch(copy_rows<Unit, I>, y.device(), grid.blocks, grid.threads, 0, static_cast<const Unit*>(x.raw()),
             index.data<I>(), static_cast<Unit*>(y.raw()), rows, n, k, units);
    });
  });
}

void gather(ConstView x, ConstView index, View y) {
  const int64_t total = y.numel();
  visit_unit(size_of(x.dtype()), {}, [&]<class Unit>() {
    visit_index(index.dtype(), [&]<class I>() {
      launch(gather_elements<Unit, I>, y.device(), blocks_for(total, threads), threads, 0,
             static_cast<const Unit*>(x.raw()), index.data<I>(), static_cast<Unit*>(y.raw()), total, x.size(1),
             index.size(1), index.size(2));
    });
  });
}

void gather_grad(ConstView index, ConstView dy, View dx) {
  const int64_t total = dx.numel(), columns = dx.size(0) * dx.size(2), n = dx.size(1), k = index.size(1);
  const Device device = dx.device();
  visit_float(dx.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    visit_index(index.dtype(), [&]<class I>() {
      if (k <= few_positions) {
        launch(gather_grad_few<X, I>, device, blocks_for(total, threads), threads, 0, index.data<I>(), dy.data<X>(),
               dx.data<X>(), total, n, k, dx.size(2));
        return;
      }
      const Scratch wide(device, std::is_same_v<S, X> ? 0 : static_cast<size_t>(total) * sizeof(S));
      S* sums = std::is_same_v<S, X> ? static_cast<S*>(dx.raw()) : wide.data<S>();
      launch(gather_grad_many<X, I>, device, blocks_for(columns, threads / 32), threads, 0, index.data<I>(),
             dy.data<X>(), sums, dx.data<X>(), columns, n, k, dx.size(2));
    });
  });
}

void bincount(ConstView ids, View counts) {
  const int64_t count = ids.numel();
  auto* to = reinterpret_cast<unsigned long long*>(counts.data<int64_t>());
  visit_index(ids.dtype(), [&]<class I>() {
    launch(count_ids<I>, ids.device(), blocks_for(count, threads), threads, 0, ids.data<I>(), count, to,
           counts.numel());
  });
}

// Fills `rows` by a stable sort of the positions; a position outside [0, n) comes behind the last row.
void sort_positions(ConstView index, const Rows& rows) {
  const Device device = index.device();
  const auto k = static_cast<unsigned>(rows.k), n = static_cast<unsigned>(rows.n);
  const Scratch numbers(device, static_cast<size_t>(rows.k) * 3 * sizeof(unsigned));
  unsigned *keys = numbers.data<unsigned>(), *sorted = keys + rows.k, *positions = sorted + rows.k;
  visit_index(index.dtype(), [&]<class I>() {
    launch(number_positions<I>, device, blocks_for(rows.k, threads), threads, 0, index.data<I>(), k, n, keys,
           positions);
  });
  radix_sort(device, {keys, positions}, {sorted, rows.positions}, k, 0, std::bit_width(n));
  launch(find_rows, device, blocks_for(rows.n, threads), threads, 0, sorted, rows);
}

// Reads source once; a row's partial sums are a 32nd of its elements.
template <class Y, int V>
void add_sorted(const Rows& rows, ConstView source, View y) {
  using S = compute_t<Y>;
  const int64_t outers = y.size(0), parts = outers * (rows.k / (chunk / 2) + 1);
  const Scratch partials(y.device(), static_cast<size_t>(parts * rows.inner) * sizeof(S));
  const RowGrid chunks(outers * rows.slots, rows.inner / V, items_per_thread);
  const RowGrid targets(outers * rows.n, rows.inner, items_per_thread);
  launch(sum_chunks<Y, V>, y.device(), chunks.blocks, chunks.threads, 0, rows, source.data<Y>(), y.data<Y>(),
         partials.data<S>(), outers);
  launch(add_partials<Y>, y.device(), targets.blocks, targets.threads, 0, rows, partials.data<S>(), y.data<Y>(),
         outers);
}

void index_add(ConstView index, ConstView source, View y) {
  const int64_t n = y.size(1), k = source.size(1), inner = y.size(2), slots = k / chunk + n, limit = int64_t{1} << 32;
  if (y.numel() == 0 || k == 0) return;
  check<ValueError>(k < limit && n < limit, "index_add: needs fewer than 2^32 rows and positions: index ", index,
                    ", y ", y);
  const Scratch numbers(y.device(), static_cast<size_t>(n + 1 + slots + k) * sizeof(unsigned));
  auto* starts = numbers.data<unsigned>();
  const Rows rows{starts, starts + n + 1, starts + n + 1 + slots, n, k, inner, slots};
  sort_positions(index, rows);
  const bool aligned = is_aligned(source.raw(), 16) && is_aligned(y.raw(), 16);
  visit_packs(y.dtype(), inner, aligned, [&]<class Y, int V>() { add_sorted<Y, V>(rows, source, y); });
}

const Registered registered_check_index(DeviceType::cuda, kernels::check_index, check_index);
const Registered registered_index_select(DeviceType::cuda, kernels::index_select, index_select);
const Registered registered_index_add(DeviceType::cuda, kernels::index_add, index_add);
const Registered registered_gather(DeviceType::cuda, kernels::gather, gather);
const Registered registered_gather_grad(DeviceType::cuda, kernels::gather_grad, gather_grad);
const Registered registered_bincount(DeviceType::cuda, kernels::bincount, bincount);

}  // namespace
}  // namespace mahia::cuda
