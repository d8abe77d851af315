// SPDX-License-Identifier: Apache-2.0
#include "backends/cpu/gemm.hpp"

#include <algorithm>
#include <vector>

#include "backends/cpu/gemm_kernel.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"

namespace mahia::cpu {
namespace {

constexpr int64_t k_block = 256;            // summed in registers; the only size here that the bits depend on
constexpr int64_t k_range = 4096;           // worked off before the next range begins, so that packed b stays small
constexpr int64_t panel_rows = 72;          // rows of a, packed by the task that multiplies them
constexpr int64_t strip_columns = 512;      // columns of b, packed once for all panels
constexpr int64_t packed_limit = 16 << 20;  // elements of packed b at a time
constexpr int64_t task_work = 65536;        // multiply-adds, or elements to pack, that are worth a task

// Columns [column, column + width) of a product along [from, to) of k, and where its parts stand in their wave.
template <class X>
struct Strip {
  const Product<X>* product;
  int64_t column, width, from, to;
  int64_t packed;           // first element of b's copy
  int64_t panels, slivers;  // numbers of those of all strips before this one
};

int64_t pieces(int64_t n, int64_t size) { return (n + size - 1) / size; }

int64_t per_task(int64_t count, int64_t work) {
  return std::max<int64_t>(1, count * task_work / std::max(work, int64_t{1}));
}

// Strips that are worked off together: first b is packed, then each task multiplies a panel of rows of a with a strip.
template <class X>
class Wave {
  using S = compute_t<X>;

 public:
  void add(const Product<X>& p, int64_t column, int64_t from, int64_t to) {
    const int64_t width = std::min(strip_columns, p.n - column);
    const int64_t slivers = pieces(width, tile_columns<S>), size = slivers * tile_columns<S> * (to - from);
    if (elements_ + size > packed_limit) run();
    strips_.push_back({&p, column, width, from, to, elements_, panels_, slivers_});
    elements_ += size;
    panels_ += pieces(p.m, panel_rows);
    slivers_ += slivers;
    operations_ += p.m * width * (to - from);
  }

  void run() {
    const Scratch scratch(cpu_device, static_cast<size_t>(elements_) * sizeof(S));
    S* packed = scratch.data<S>();
    parallel_rows(slivers_, per_task(slivers_, elements_), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) pack_sliver(i, packed);
    });
    parallel_rows(panels_, per_task(panels_, operations_), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) multiply_panel(i, packed);
    });
    *this = Wave();
  }

 private:
  const Strip<X>& strip_of(int64_t i, int64_t Strip<X>::*first) const {
    return *(std::ranges::upper_bound(strips_, i, {}, first) - 1);
  }

  // A sliver is tile_columns of a strip along all of its k: packed[k][tile_columns].
  void pack_sliver(int64_t i, S* packed) const {
    const Strip<X>& strip = strip_of(i, &Strip<X>::slivers);
    const int64_t j = (i - strip.slivers) * tile_columns<S>, k = strip.to - strip.from;
    const auto columns = strip.product->b.from(strip.from, strip.column + j).transposed();
    pack<tile_columns<S>>(columns, std::min(tile_columns<S>, strip.width - j), k, packed + strip.packed + j * k);
  }

  void multiply_panel(int64_t i, const S* packed) const {
    const Strip<X>& strip = strip_of(i, &Strip<X>::panels);
    const Product<X>& p = *strip.product;
    const int64_t row = (i - strip.panels) * panel_rows, rows = std::min(panel_rows, p.m - row);
    const S* b = packed + strip.packed;
    const auto start = p.start.from(row, strip.column);
    const auto c = p.c.from(row, strip.column);
    if constexpr (std::is_same_v<X, S>) {
      multiply_rows(strip, row, rows, b, start, c);
    } else {
      const Scratch scratch(cpu_device, static_cast<size_t>(rows * strip.width) * sizeof(S));
      const Matrix<S> sums{scratch.data<S>(), strip.width, 1};
      for_each(rows, strip.width, [&](int64_t r, int64_t j) {
        *sums.at(r, j) = start.data == nullptr ? S(0) : convert<S>(*start.at(r, j));
      });
      multiply_rows(strip, row, rows, b, {sums.data, strip.width, 1}, sums);
      for_each(rows, strip.width, [&](int64_t r, int64_t j) { *c.at(r, j) = convert<X>(*sums.at(r, j)); });
    }
  }

  template <class Body>
  static void for_each(int64_t rows, int64_t columns, Body&& body) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < columns; ++j) body(r, j);
    }
  }

  // For each block of k: a packed, then its tiles under each sliver of b, which stays in the first-level cache.
  void multiply_rows(const Strip<X>& strip, int64_t row, int64_t rows, const S* b, const Matrix<const S>& start,
                     const Matrix<S>& c) const {
    const Scratch scratch(cpu_device, static_cast<size_t>(panel_rows * k_block) * sizeof(S));
    S* a = scratch.data<S>();
    const int64_t k_total = strip.to - strip.from;
    for (int64_t at = 0; at == 0 || at < k_total; at += k_block) {
      const int64_t k = std::min(k_block, k_total - at);
      for (int64_t i = 0; i < rows; i += tile_rows) {
        const auto lines = strip.product->a.from(row + i, strip.from + at);
        pack<tile_rows>(lines, std::min(tile_rows, rows - i), k, a + i * k_block);
      }
      const bool first = strip.from + at == 0;
      for (int64_t j = 0; j < strip.width; j += tile_columns<S>) {
        const S* sliver = b + j * k_total + at * tile_columns<S>;
        const int64_t columns = std::min(tile_columns<S>, strip.width - j);
        for (int64_t i = 0; i < rows; i += tile_rows) {
          const Target<S> target{c.from(i, j), first ? start.from(i, j) : Matrix<const S>{c.at(i, j), c.row_stride, 1},
                                 columns};
          multiply_tile(std::min(tile_rows, rows - i), k, a + i * k_block, sliver, target);
        }
      }
    }
  }

  std::vector<Strip<X>> strips_;
  int64_t elements_ = 0, panels_ = 0, slivers_ = 0, operations_ = 0;
};

// The same product with c's rows contiguous.
template <class X>
Product<X> with_contiguous_rows(const Product<X>& p) {
  if (p.c.column_stride == 1) return p;
  return {p.n, p.m, p.k, p.b.transposed(), p.a.transposed(), p.start.transposed(), p.c.transposed()};
}

}  // namespace

template <class X>
void gemm(std::span<const Product<X>> products) {
  std::vector<Product<X>> todo;
  int64_t longest = 0;
  for (const Product<X>& p : products) {
    if (p.m > 0 && p.n > 0) todo.push_back(with_contiguous_rows(p));
    longest = std::max(longest, p.k);
  }
  // A bf16 c would round the sums between two ranges: there is one.
  const int64_t range = std::is_same_v<X, compute_t<X>> ? k_range : std::max<int64_t>(longest, 1);
  Wave<X> wave;
  for (int64_t from = 0; from == 0 || from < longest; from += range) {
    for (const Product<X>& p : todo) {
      if (from > 0 && from >= p.k) continue;
      for (int64_t column = 0; column < p.n; column += strip_columns)
        wave.add(p, column, from, std::min(p.k, from + range));
    }
    wave.run();
  }
}

template void gemm(std::span<const Product<double>>);
template void gemm(std::span<const Product<float>>);
template void gemm(std::span<const Product<bfloat16>>);

}  // namespace mahia::cpu
