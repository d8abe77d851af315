// SPDX-License-Identifier: Apache-2.0
#include "ops/matmul.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "backends/cuda/cublas.hpp"
#include "core/copy.hpp"
#include "core/scratch.hpp"
#include "ops/grouped_mm.hpp"

namespace mahia::cuda {
namespace {

// A view with its last two axes swapped.
template <class V>
V transposed(const V& v) {
  Shape shape = v.shape(), strides = v.strides();
  const int last = v.rank() - 1;
  std::swap(shape[last], shape[last - 1]);
  std::swap(strides[last], strides[last - 1]);
  return {v.raw(), shape, strides, v.dtype(), v.device()};
}

// Whether the last two axes are a matrix in memory with `axis` (-1 or -2) contiguous.
bool is_stored_along(const ConstView& v, int axis) {
  const int other = -3 - axis;
  return (v.size(axis) == 1 || v.stride(axis) == 1) && (v.size(other) == 1 || v.stride(other) >= v.size(axis));
}

int64_t row_step(const ConstView& v, int axis) {
  const int other = -3 - axis;
  return v.size(other) == 1 ? std::max<int64_t>(1, v.size(axis)) : v.stride(other);
}

// An operand as cuBLAS can read it; copied where its strides are not those of a matrix.
class Operand {
 public:
  explicit Operand(const ConstView& v) : view_(v) {
    if (is_stored_along(v, -1) || is_stored_along(v, -2)) return;
    memory_.emplace(v.device(), static_cast<size_t>(v.numel()) * size_of(v.dtype()));
    const View copy(memory_->data<void>(), v.shape(), contiguous_strides(v.shape()), v.dtype(), v.device());
    kernels::copy(v, copy);
    view_ = copy;
  }
  const ConstView& view() const { return view_; }
  bool transposed() const { return !is_stored_along(view_, -1); }
  int64_t row() const { return row_step(view_, transposed() ? -2 : -1); }

 private:
  ConstView view_;
  std::optional<Scratch> memory_;
};

const char* at(const ConstView& v, int64_t elements) {
  return static_cast<const char*>(v.raw()) + elements * static_cast<int64_t>(size_of(v.dtype()));
}

// The leading axes of all operands as one strided batch where they merge, and the axes left over before it.
struct Batches {
  int outer = 0;  // axes that are walked one by one
  int64_t count = 1;
  Batches(const ConstView& a, const ConstView& b, const ConstView& c) {
    int axis = c.rank() - 3;
    for (; axis >= 0; --axis) {
      const bool merges = count == 1 || (a.stride(axis) == step(a, axis + 1) && b.stride(axis) == step(b, axis + 1) &&
                                         c.stride(axis) == step(c, axis + 1));
      if (!merges && c.size(axis) != 1) break;
      count *= c.size(axis);
    }
    outer = axis + 1;
  }
  static int64_t step(const ConstView& v, int axis) { return v.stride(axis) * v.size(axis); }
};

int64_t offset_of(const ConstView& v, int axes, int64_t index) {
  int64_t offset = 0;
  for (int axis = axes - 1; axis >= 0; --axis) {
    offset += index % v.size(axis) * v.stride(axis);
    index /= v.size(axis);
  }
  return offset;
}

// The distance between the matrices of the batch: the stride of its last axis with more than one element.
int64_t batch_step(const ConstView& v, int outer) {
  for (int axis = v.rank() - 3; axis >= outer; --axis) {
    if (v.size(axis) != 1) return v.stride(axis);
  }
  return 0;
}

// Whether `start` is one row that every row of every matrix begins with.
bool is_one_row(const ConstView& start) {
  for (int axis = 0; axis < start.rank() - 1; ++axis) {
    if (start.size(axis) != 1 && start.stride(axis) != 0) return false;
  }
  return start.stride(-1) == 1;
}

void multiply(const ConstView& a, const ConstView& b, const ConstView& start, const View& c) {
  if (c.stride(-1) != 1 && c.size(-1) != 1) {  // c^T = b^T a^T has unit stride along its last axis
    const ConstView left = transposed(b), right = transposed(a);
    return multiply(left, right, start.defined() ? transposed(start) : start, transposed(c));
  }
  if (a.size(-1) == 0) return start.defined() ? kernels::copy(start, c) : kernels::fill(c, 0);
  const bool bias = start.defined() && start.dtype() != DType::f64 && is_one_row(start);
  if (start.defined() && !bias && start.raw() != c.raw()) kernels::copy(start, c);
  const Operand left(a), right(b);
  const ConstView &x = left.view(), &y = right.view();
  const Batches batches(x, y, c);
  Gemm g{.dtype = a.dtype(),
         .result = c.dtype(),
         .m = c.size(-2),
         .n = c.size(-1),
         .k = a.size(-1),
         .count = batches.count};
  g.a_transposed = left.transposed();
  g.b_transposed = right.transposed();
  g.a_row = left.row();
  g.b_row = right.row();
  g.c_row = row_step(c, -1);
  g.a_step = batch_step(x, batches.outer);
  g.b_step = batch_step(y, batches.outer);
  g.c_step = batch_step(c, batches.outer);
  g.accumulate = start.defined() && !bias;
  g.bias = bias ? start.raw() : nullptr;
  const int64_t loops = c.numel() / (g.m * g.n * g.count);
  for (int64_t i = 0; i < loops; ++i) {
    g.a = at(x, offset_of(x, batches.outer, i));
    g.b = at(y, offset_of(y, batches.outer, i));
    g.c = const_cast<char*>(at(c, offset_of(c, batches.outer, i)));
    gemm(c.device(), g);
  }
}

// Matrix number `index` of the leading axes.
template <class V>
V matrix(const V& v, int64_t index) {
  const int last = v.rank() - 1;
  char* const data = const_cast<char*>(at(v, offset_of(v, last - 1, index)));
  return {data, {v.size(-2), v.size(-1)}, {v.stride(-2), v.stride(-1)}, v.dtype(), v.device()};
}

// A copy with contiguous rows at the start of `memory`.
View in_rows(const Scratch& memory, const ConstView& v) {
  return {memory.data<void>(), v.shape(), contiguous_strides(v.shape()), v.dtype(), v.device()};
}

// Whether grouped_mm reads the weight (out, in) by the tensor cores of Hopper as it lies, if it reads the rows so.
bool suits_tensor_cores(const ConstView& weight) {
  const auto runs_along = [&](int axis) {
    return weight.stride(axis) == 1 && weight.stride(1 - axis) > 0 && weight.stride(1 - axis) % 8 == 0;
  };
  return reinterpret_cast<uintptr_t>(weight.raw()) % 16 == 0 && (runs_along(0) || runs_along(1));
}

// c = a b, a row of c by row i of a alone and always in the same way: all operands are brought into orders in memory
// that one kernel of grouped_mm reads, here with one group; it has one tile and one order of sums for all rows.
void multiply_by_rows(const ConstView& a, const ConstView& b, const ConstView& bias, const View& c) {
  const Device device = c.device();
  const int64_t in = b.size(0), out = b.size(1);
  const Scratch offsets(device, 2 * sizeof(int32_t)), rows(device, static_cast<size_t>(a.numel()) * size_of(a.dtype())),
      result(device, static_cast<size_t>(c.numel()) * size_of(c.dtype()));
  std::optional<Scratch> moved;
  ConstView factor = transposed(b);
  if (b.dtype() == DType::bf16 && in % 8 == 0 && !suits_tensor_cores(factor)) {
    moved.emplace(device, static_cast<size_t>(b.numel()) * size_of(b.dtype()));
    const View copy = in_rows(*moved, factor);
    kernels::copy(factor, copy);
    factor = copy;
  }
  const View ends(offsets.data<void>(), {2}, {1}, DType::i32, device), left = in_rows(rows, a), y = in_rows(result, c);
  kernels::FewBytes bytes{};
  const std::array<int32_t, 2> values{0, static_cast<int32_t>(a.size(0))};
  std::memcpy(bytes.data(), values.data(), sizeof(values));
  kernels::set_bytes(ends, bytes);
  kernels::copy(a, left);
  const ConstView weight(factor.raw(), {1, out, in}, {out * in, factor.stride(0), factor.stride(1)}, b.dtype(), device);
  const ConstView add = bias.defined() ? ConstView(bias.raw(), {1, bias.size(-1)}, {0, 1}, bias.dtype(), device) : bias;
  kernels::grouped_mm(left, weight, ends, add, y);
  kernels::copy(y, c);
}

// Sums over the rows, such as weights' gradients, and products that are widened have no rows to keep apart.
bool keeps_rows_apart(const ConstView& a, const ConstView& start, const View& c) {
  return batch_invariant() && c.dtype() == a.dtype() && (!start.defined() || is_one_row(start)) && a.size(-1) > 0;
}

// Rows [begin, begin + count) of a matrix.
template <class V>
V rows_of(const V& v, int64_t begin, int64_t count) {
  char* const data = const_cast<char*>(at(v, begin * v.stride(0)));
  return {data, {count, v.size(1)}, {v.stride(0), v.stride(1)}, v.dtype(), v.device()};
}

void matmul(ConstView a, ConstView b, ConstView start, View c) {
  if (!keeps_rows_apart(a, start, c)) return multiply(a, b, start, c);
  constexpr int64_t most = int64_t{1} << 30;  // rows that 32 bits count
  for (int64_t i = 0; i < c.numel() / (c.size(-2) * c.size(-1)); ++i) {
    const ConstView left = matrix(a, i), right = matrix(b, i);
    const View result = matrix(c, i);
    for (int64_t row = 0; row < c.size(-2); row += most) {
      const int64_t count = std::min(most, c.size(-2) - row);
      multiply_by_rows(rows_of(left, row, count), right, start, rows_of(result, row, count));
    }
  }
}

const Registered registered_matmul(DeviceType::cuda, kernels::matmul, matmul);

}  // namespace
}  // namespace mahia::cuda
