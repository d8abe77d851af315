// SPDX-License-Identifier: Apache-2.0
#include "ops/reduce.hpp"

#include <algorithm>
#include <limits>

#include "backends/cpu/elementwise.hpp"
#include "core/scratch.hpp"

namespace mahia::cpu {
namespace {

constexpr int64_t block = 2048;     // neighbours reduced in lanes before the partial results are joined in order
constexpr int64_t row_block = 512;  // rows of a strip reduced by one task
constexpr int64_t strip = 256;      // columns of a strip
constexpr int lanes = 32;

// Integers add up in an unsigned type, where overflow is defined, and come out as i64.
template <class X>
using sum_t = std::conditional_t<std::is_integral_v<X>, uint64_t, compute_t<X>>;

struct Sum {
  template <class X>
  using type = sum_t<X>;
  template <class S>
  static constexpr S start = S{0};
  template <class S>
  static S join(S a, S b) {
    return a + b;
  }
};

// A NaN stays: the comparison is false for a NaN in a, the second test lets one in b through.
struct Max {
  template <class X>
  using type = compute_t<X>;
  template <class S>
  static constexpr S start = std::numeric_limits<S>::has_infinity ? -std::numeric_limits<S>::infinity()
                                                                  : std::numeric_limits<S>::lowest();
  template <class S>
  static S join(S a, S b) {
    return b > a || b != b ? b : a;
  }
};

struct Min {
  template <class X>
  using type = compute_t<X>;
  template <class S>
  static constexpr S start = std::numeric_limits<S>::has_infinity ? std::numeric_limits<S>::infinity()
                                                                  : std::numeric_limits<S>::max();
  template <class S>
  static S join(S a, S b) {
    return b < a || b != b ? b : a;
  }
};

// n neighbours in lanes, folded in a fixed order.
template <class Fold, class S, class X>
S reduce_block(const X* x, int64_t n) {
  S lane[lanes];
  std::fill_n(lane, lanes, Fold::template start<S>);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (int k = 0; k < lanes; ++k) lane[k] = Fold::join(lane[k], convert<S>(x[i + k]));
  }
  for (int k = 0; i < n; ++i, ++k) lane[k] = Fold::join(lane[k], convert<S>(x[i]));
  for (int width = lanes / 2; width > 0; width /= 2) {
    for (int k = 0; k < width; ++k) lane[k] = Fold::join(lane[k], lane[k + width]);
  }
  return lane[0];
}

// (outer, n) -> (outer): blocks into slots, then each row's slots in order.
template <class Fold, class X, class Finish>
void reduce_rows(const X* x, int64_t outer, int64_t n, Finish&& finish) {
  using S = typename Fold::template type<X>;
  if (n <= block) {
    parallel_rows(outer, std::max<int64_t>(1, elementwise_tile / std::max<int64_t>(1, n)), [&](int64_t b, int64_t e) {
      for (int64_t row = b; row < e; ++row) finish(row, reduce_block<Fold, S>(x + row * n, n));
    });
    return;
  }
  const int64_t blocks = (n + block - 1) / block;
  const Scratch partial(cpu_device, static_cast<size_t>(outer * blocks) * sizeof(S));
  S* slots = partial.data<S>();
  parallel_rows(outer * blocks, elementwise_tile / block, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t start = i % blocks * block;
      slots[i] = reduce_block<Fold, S>(x + i / blocks * n + start, std::min(block, n - start));
    }
  });
  for (int64_t row = 0; row < outer; ++row) finish(row, reduce_block<Fold, S>(slots + row * blocks, blocks));
}

// (outer, n, inner) -> (outer, inner): a task walks 512 rows of a strip of columns; the partial rows join in order.
template <class Fold, class X, class Finish>
void reduce_columns(const X* x, int64_t outer, int64_t n, int64_t inner, Finish&& finish) {
  using S = typename Fold::template type<X>;
  const int64_t strips = (inner + strip - 1) / strip, blocks = std::max<int64_t>(1, (n + row_block - 1) / row_block);
  const Scratch partial(cpu_device, static_cast<size_t>(outer * blocks * inner) * sizeof(S));
  S* slots = partial.data<S>();
  const int64_t work = std::min(strip, inner) * std::clamp<int64_t>(n, 1, row_block);
  parallel_rows(outer * blocks * strips, std::max<int64_t>(1, elementwise_tile / work), [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      const int64_t column = i % strips * strip, width = std::min(strip, inner - column);
      const int64_t part = i / strips, first = part % blocks * row_block, last = std::min(n, first + row_block);
      const X* from = x + part / blocks * n * inner + column;
      S total[strip];
      std::fill_n(total, strip, Fold::template start<S>);
      for (int64_t row = first; row < last; ++row) {
        for (int64_t c = 0; c < width; ++c) total[c] = Fold::join(total[c], convert<S>(from[row * inner + c]));
      }
      std::copy_n(total, width, slots + part * inner + column);
    }
  });
  for (int64_t o = 0; o < outer; ++o) {
    S* total = slots + o * blocks * inner;
    for (int64_t part = 1; part < blocks; ++part) {
      for (int64_t c = 0; c < inner; ++c) total[c] = Fold::join(total[c], total[part * inner + c]);
    }
    for (int64_t c = 0; c < inner; ++c) finish(o * inner + c, total[c]);
  }
}

template <class Fold, class X, class Finish>
void reduce(const ConstView& x, Finish&& finish) {
  if (x.size(2) == 1) {
    reduce_rows<Fold>(x.data<X>(), x.size(0), x.size(1), finish);
  } else {
    reduce_columns<Fold>(x.data<X>(), x.size(0), x.size(1), x.size(2), finish);
  }
}

void sum(ConstView x, View y, double divisor) {
  visit_number(x.dtype(), [&]<class X>() {
    using Y = std::conditional_t<std::is_integral_v<X>, int64_t, X>;
    Y* out = y.data<Y>();
    reduce<Sum, X>(x, [&](int64_t i, sum_t<X> total) {
      if constexpr (std::is_integral_v<X>) {
        out[i] = static_cast<int64_t>(total);
      } else {
        out[i] = convert<X>(total / static_cast<sum_t<X>>(divisor));
      }
    });
  });
}

template <class Fold>
void extreme(ConstView x, View y) {
  visit_number(x.dtype(), [&]<class X>() {
    X* out = y.data<X>();
    reduce<Fold, X>(x, [&](int64_t i, compute_t<X> best) { out[i] = convert<X>(best); });
  });
}

// The first largest element, or the first NaN, of n elements `step` apart.
template <class X>
int64_t first_largest(const X* x, int64_t n, int64_t step) {
  int64_t best = 0;
  auto top = convert<compute_t<X>>(x[0]);
  for (int64_t i = 1; i < n && top == top; ++i) {
    const auto value = convert<compute_t<X>>(x[i * step]);
    if (value > top || value != value) {
      top = value;
      best = i;
    }
  }
  return best;
}

void argmax(ConstView x, View y) {
  const int64_t n = x.size(1), inner = x.size(2);
  int64_t* out = y.data<int64_t>();
  visit_number(x.dtype(), [&]<class X>() {
    const X* from = x.data<X>();
    parallel_rows(x.size(0) * inner, std::max<int64_t>(1, elementwise_tile / n), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] = first_largest(from + i / inner * n * inner + i % inner, n, inner);
    });
  });
}

const Registered registered_sum(DeviceType::cpu, kernels::sum, sum);
const Registered registered_amax(DeviceType::cpu, kernels::amax, extreme<Max>);
const Registered registered_amin(DeviceType::cpu, kernels::amin, extreme<Min>);
const Registered registered_argmax(DeviceType::cpu, kernels::argmax, argmax);

}  // namespace
}  // namespace mahia::cpu
