// SPDX-License-Identifier: Apache-2.0
#include "ops/grouped_mm.hpp"

#include <algorithm>
#include <vector>

#include "backends/cpu/elementwise.hpp"
#include "backends/cpu/gemm.hpp"

namespace mahia::cpu {
namespace {

// The rows [begin, end) of each group, in order.
class Groups {
 public:
  Groups(const ConstView& offsets, int64_t rows) : offsets_(offsets.data<int32_t>()), count_(offsets.numel() - 1) {
    for (int64_t e = 0; e < count_; ++e) {
      check<IndexError>(begin(e) <= end(e), "grouped_mm: offsets descend at ", e, ": ", begin(e), " to ", end(e));
    }
    check<IndexError>(offsets_[0] == 0 && offsets_[count_] == rows, "grouped_mm: offsets go from ", offsets_[0], " to ",
                      offsets_[count_], ", must go from 0 to the number of rows, ", rows);
  }
  int64_t count() const { return count_; }
  int64_t begin(int64_t e) const { return offsets_[e]; }
  int64_t end(int64_t e) const { return offsets_[e + 1]; }

 private:
  const int32_t* offsets_;
  int64_t count_;
};

template <class X>
Matrix<const X> rows_of(const ConstView& x, int64_t first) {
  return Matrix<const X>{x.data<X>(), x.stride(0), x.stride(1)}.from(first, 0);
}

void grouped_mm(ConstView x, ConstView weight, ConstView offsets, ConstView bias, View y) {
  const Groups groups(offsets, x.size(0));
  visit_float(x.dtype(), [&]<class X>() {
    const int64_t n = weight.size(1);
    std::vector<Product<X>> products;
    for (int64_t e = 0; e < groups.count(); ++e) {
      const int64_t first = groups.begin(e), m = groups.end(e) - first;
      const Matrix<const X> w{weight.data<X>() + e * weight.stride(0), weight.stride(2), weight.stride(1)};
      products.push_back({m, n, weight.size(2), rows_of<X>(x, first), w, Matrix<const X>(),
                          Matrix<X>{y.data<X>(), y.stride(0), 1}.from(first, 0)});
      if (bias.defined()) products.back().start = {bias.data<X>() + e * n, 0, 1};
    }
    gemm<X>(products);
  });
}

// Sums the rows of each group, in blocks of 256 that are added in order; a task owns a strip of columns of a group.
template <class X>
void sum_groups(const Groups& groups, const X* dy, int64_t n, X* dbias) {
  using S = compute_t<X>;
  constexpr int64_t strip = 128, block = 256;
  const int64_t strips = (n + strip - 1) / strip;
  parallel_rows(groups.count() * strips, 1, [&](int64_t task, int64_t) {
    const int64_t e = task / strips, column = task % strips * strip, width = std::min(strip, n - column);
    S total[strip] = {};
    for (int64_t from = groups.begin(e); from < groups.end(e); from += block) {
      S part[strip] = {};
      for (int64_t row = from; row < std::min(from + block, groups.end(e)); ++row) {
        for (int64_t j = 0; j < width; ++j) part[j] += convert<S>(dy[row * n + column + j]);
      }
      for (int64_t j = 0; j < width; ++j) total[j] += part[j];
    }
    for (int64_t j = 0; j < width; ++j) dbias[e * n + column + j] = convert<X>(total[j]);
  });
}

void grouped_mm_weight_grad(ConstView x, ConstView dy, ConstView offsets, View dweight, View dbias) {
  const Groups groups(offsets, x.size(0));
  visit_float(dy.dtype(), [&]<class X>() {
    const int64_t m = dy.size(1), n = x.size(1);
    if (dbias.defined()) sum_groups(groups, dy.data<X>(), m, dbias.data<X>());
    if (!dweight.defined()) return;
    std::vector<Product<X>> products;
    for (int64_t e = 0; e < groups.count(); ++e) {
      const int64_t first = groups.begin(e), k = groups.end(e) - first;
      products.push_back({m, n, k, rows_of<X>(dy, first).transposed(), rows_of<X>(x, first), Matrix<const X>(),
                          Matrix<X>{dweight.data<X>() + e * m * n, n, 1}});
    }
    gemm<X>(products);
  });
}

const Registered registered_grouped_mm(DeviceType::cpu, kernels::grouped_mm, grouped_mm);
const Registered registered_grouped_mm_weight_grad(DeviceType::cpu, kernels::grouped_mm_weight_grad,
                                                   grouped_mm_weight_grad);

}  // namespace
}  // namespace mahia::cpu
