// SPDX-License-Identifier: Apache-2.0
#include "ops/matmul.hpp"

#include <optional>

#include "backends/cuda/cublas.hpp"
#include "core/copy.hpp"
#include "core/scratch.hpp"

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
bool is_bias(const ConstView& start) {
  for (int axis = 0; axis < start.rank() - 1; ++axis) {
    if (start.size(axis) != 1 && start.stride(axis) != 0) return false;
  }
  return start.stride(-1) == 1 && start.dtype() != DType::f64;
}

void multiply(const ConstView& a, const ConstView& b, const ConstView& start, const View& c, bool rows_along_n) {
  if (c.stride(-1) != 1 && c.size(-1) != 1) {  // c^T = b^T a^T has unit stride along its last axis
    const ConstView left = transposed(b), right = transposed(a);
    return multiply(left, right, start.defined() ? transposed(start) : start, transposed(c), true);
  }
  if (a.size(-1) == 0) return start.defined() ? kernels::copy(start, c) : kernels::fill(c, 0);
  const bool bias = start.defined() && is_bias(start);
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
  g.rows_along_n = rows_along_n;
  g.bias = bias ? start.raw() : nullptr;
  const int64_t loops = c.numel() / (g.m * g.n * g.count);
  for (int64_t i = 0; i < loops; ++i) {
    g.a = at(x, offset_of(x, batches.outer, i));
    g.b = at(y, offset_of(y, batches.outer, i));
    g.c = const_cast<char*>(at(c, offset_of(c, batches.outer, i)));
    gemm(c.device(), g);
  }
}

void matmul(ConstView a, ConstView b, ConstView start, View c) { multiply(a, b, start, c, false); }

const Registered registered_matmul(DeviceType::cuda, kernels::matmul, matmul);

}  // namespace
}  // namespace mahia::cuda
