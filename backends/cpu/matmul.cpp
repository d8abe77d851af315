// SPDX-License-Identifier: Apache-2.0
#include "ops/matmul.hpp"

#include <vector>

#include "backends/cpu/gemm.hpp"
#include "core/copy.hpp"
#include "core/scratch.hpp"

namespace mahia::cpu {
namespace {

template <class T>
Matrix<T> matrix(T* data, const ConstView& view) {
  return {data, view.stride(-2), view.stride(-1)};
}

// Where matrix number `index` of a view begins, counted along the leading axes.
int64_t offset_of(const ConstView& view, int64_t index) {
  int64_t offset = 0;
  for (int axis = view.rank() - 3; axis >= 0; --axis) {
    offset += index % view.size(axis) * view.stride(axis);
    index /= view.size(axis);
  }
  return offset;
}

// A bf16 factor of an f32 product.
class Widened {
 public:
  explicit Widened(const ConstView& x) : memory_(x.device(), static_cast<size_t>(x.numel()) * sizeof(float)) {
    view_ = View(memory_.data<float>(), x.shape(), contiguous_strides(x.shape()), DType::f32, x.device());
    kernels::copy(x, view_);
  }
  const View& view() const { return view_; }

 private:
  Scratch memory_;
  View view_;
};

void matmul(ConstView a, ConstView b, ConstView start, View c) {
  if (a.dtype() != c.dtype()) {
    const Widened left(a), right(b);
    return matmul(left.view(), right.view(), start, c);
  }
  visit_float(c.dtype(), [&]<class X>() {
    const int64_t m = c.size(-2), n = c.size(-1), count = c.numel() / (m * n);
    std::vector<Product<X>> products;
    for (int64_t i = 0; i < count; ++i) {
      products.push_back({m, n, a.size(-1), matrix(a.data<X>() + offset_of(a, i), a),
                          matrix(b.data<X>() + offset_of(b, i), b), Matrix<const X>(),
                          matrix(c.data<X>() + offset_of(c, i), c)});
      if (start.defined()) products.back().start = matrix(start.data<X>() + offset_of(start, i), start);
    }
    gemm<X>(products);
  });
}

const Registered registered_matmul(DeviceType::cpu, kernels::matmul, matmul);

}  // namespace
}  // namespace mahia::cpu
