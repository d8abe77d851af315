// SPDX-License-Identifier: Apache-2.0
#include "ops/matmul.hpp"

#include <vector>

#include "backends/cpu/gemm.hpp"

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

void matmul(ConstView a, ConstView b, ConstView start, View c) {
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
