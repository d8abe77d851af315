// SPDX-License-Identifier: Apache-2.0
#include "ops/softmax.hpp"

#include <limits>

#include "backends/cuda/math.cuh"
#include "backends/cuda/rows.cuh"

namespace mahia::cuda {
namespace {

constexpr int most_threads = 1024, small_block = 128;
constexpr int held = 8;  // numbers of an operand's row that a thread keeps in registers; it reads the others again

// What a team adds up, and in which order, depends on n alone.
struct RowPlan {
  int64_t rows, n;
  RowTeam team;
  bool aligned;
};

// A thread's share of one row of N operands (rows, n): every team.width-th pack of V neighbours, n a multiple of V.
template <class X, int V, int N>
class Share {
  using S = compute_t<X>;

 public:
  using Values = S[N][V];

  __device__ Share(const RowPlan& plan, const X* const (&x)[N]) : team_(plan.team), aligned_(plan.aligned) {
    const int64_t row = team_.row();
    lane_ = team_.lane();
    n_ = row < plan.rows ? plan.n : 0;
    start_ = row < plan.rows ? row * plan.n : 0;
    for (int j = 0; j < N; ++j) x_[j] = x[j] + start_;
#pragma unroll
    for (int p = 0; p < held / V; ++p) {
      if (at(p) < n_) read(at(p), values_[p]);
    }
  }

  // Calls body(values, i) for the packs of elements [i, i + V).
  template <class Body>
  __device__ void for_each(const Body& body) const {
#pragma unroll
    for (int p = 0; p < held / V; ++p) {
      if (at(p) < n_) body(values_[p], at(p));
    }
    for (int64_t i = at(held / V); i < n_; i += team_.width * V) {
      Values values;
      read(i, values);
      body(values, i);
    }
  }

  template <class Fn>
  __device__ S fold(S value, const Fn& fn, S* shared) const {
    return team_.reduce(value, fn, shared);
  }

  __device__ void write(X* y, int64_t i, const S (&values)[V]) const { store_values(y + start_ + i, aligned_, values); }

 private:
  __device__ int64_t at(int p) const { return static_cast<int64_t>(p * team_.width + lane_) * V; }
  __device__ void read(int64_t i, Values& values) const {
#pragma unroll
    for (int j = 0; j < N; ++j) load_values(x_[j] + i, aligned_, values[j]);
  }

  int64_t n_, start_;
  RowTeam team_;
  int lane_;
  bool aligned_;
  const X* x_[N];
  Values values_[held / V];
};

template <bool logarithm, class X, int V>
__global__ void __launch_bounds__(most_threads) softmax_rows(const X* x, X* y, const RowPlan plan) {
  using S = compute_t<X>;
  using Row = Share<X, V, 1>;
  __shared__ S shared[most_threads / 32];
  const Row row(plan, {x});
  S top = -std::numeric_limits<S>::infinity(), total = S(0);
  row.for_each([&](const typename Row::Values& v, int64_t) {
#pragma unroll
    for (int k = 0; k < V; ++k) top = Larger()(top, v[0][k]);
  });
  top = row.fold(top, Larger(), shared);
  row.for_each([&](const typename Row::Values& v, int64_t) {
#pragma unroll
    for (int k = 0; k < V; ++k) total += Math::exp(v[0][k] - top);
  });
  total = row.fold(total, Plus(), shared);
  const S factor = S(1) / total, shift = Math::log(total);
  row.for_each([&](const typename Row::Values& v, int64_t i) {
    S out[V];
#pragma unroll
    for (int k = 0; k < V; ++k) out[k] = logarithm ? v[0][k] - top - shift : Math::exp(v[0][k] - top) * factor;
    row.write(y, i, out);
  });
}

// dx = y (dy - sum(y dy)), or dy - exp(y) sum(dy) where y is the logarithm.
template <bool logarithm, class X, int V>
__global__ void __launch_bounds__(most_threads) softmax_slopes(const X* y, const X* dy, X* dx, const RowPlan plan) {
  using S = compute_t<X>;
  using Row = Share<X, V, 2>;
  __shared__ S shared[most_threads / 32];
  const Row row(plan, {y, dy});
  S total = S(0);
  row.for_each([&](const typename Row::Values& v, int64_t) {
#pragma unroll
    for (int k = 0; k < V; ++k) total += logarithm ? v[1][k] : v[0][k] * v[1][k];
  });
  total = row.fold(total, Plus(), shared);
  row.for_each([&](const typename Row::Values& v, int64_t i) {
    S out[V];
#pragma unroll
    for (int k = 0; k < V; ++k) {
      out[k] = logarithm ? v[1][k] - Math::exp(v[0][k]) * total : v[0][k] * (v[1][k] - total);
    }
    row.write(dx, i, out);
  });
}

// Calls fn<X, V>(plan, blocks, threads) for rows of x; 16 bytes a pack where n allows.
template <class Fn>
void for_rows(const ConstView& x, bool aligned, Fn&& fn) {
  const int64_t n = x.rank() == 0 ? 1 : x.size(-1);
  if (x.numel() == 0) return;
  const RowTeam team{power_of_two(ceil_div(n, held), most_threads)};
  visit_packs(x.dtype(), n, true, [&]<class X, int V>() {
    const RowPlan plan{x.numel() / n, n, team, aligned || V == 1};
    fn.template operator()<X, V>(plan, team.blocks(plan.rows, small_block), team.threads(small_block));
  });
}

// Bytes moved: one read of each operand and one write, for n up to 8192.
template <bool logarithm>
void softmax_of(ConstView x, View y) {
  for_rows(x, is_aligned(x.raw(), 16) && is_aligned(y.raw(), 16),
           [&]<class X, int V>(const RowPlan& plan, unsigned blocks, int threads) {
             launch(softmax_rows<logarithm, X, V>, x.device(), blocks, threads, 0, x.data<X>(), y.data<X>(), plan);
           });
}

template <bool logarithm>
void softmax_grad_of(ConstView y, ConstView dy, View dx) {
  for_rows(y, is_aligned(y.raw(), 16) && is_aligned(dy.raw(), 16) && is_aligned(dx.raw(), 16),
           [&]<class X, int V>(const RowPlan& plan, unsigned blocks, int threads) {
             launch(softmax_slopes<logarithm, X, V>, y.device(), blocks, threads, 0, y.data<X>(), dy.data<X>(),
                    dx.data<X>(), plan);
           });
}

const Registered registered_softmax(DeviceType::cuda, kernels::softmax, softmax_of<false>);
const Registered registered_softmax_grad(DeviceType::cuda, kernels::softmax_grad, softmax_grad_of<false>);
const Registered registered_log_softmax(DeviceType::cuda, kernels::log_softmax, softmax_of<true>);
const Registered registered_log_softmax_grad(DeviceType::cuda, kernels::log_softmax_grad, softmax_grad_of<true>);

}  // namespace
}  // namespace mahia::cuda
