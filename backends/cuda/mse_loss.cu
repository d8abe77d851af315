// SPDX-License-Identifier: Apache-2.0
#include "ops/mse_loss.hpp"

#include "backends/cuda/elementwise.cuh"
#include "backends/cuda/rows.cuh"
#include "core/scratch.hpp"

namespace mahia::cuda {
namespace {

constexpr int threads = 256;
constexpr int64_t tile = 16384;  // elements whose squares one block adds up

template <class X, class S = compute_t<X>>
struct Square {
  __device__ S operator()(X x, X target) const {
    const S off = convert<S>(x) - convert<S>(target);
    return off * off;
  }
};

// 2 sign (x - target) dy / count with one dy, or with one for each element.
template <class X, class S = compute_t<X>>
struct Slope {
  S two, count;
  const S* dy;
  __device__ X operator()(X x, X target) const {
    return convert<X>(two * (convert<S>(x) - convert<S>(target)) * (*dy / count));
  }
};

template <class X, class S = compute_t<X>>
struct SlopeOfEach {
  S two;
  __device__ X operator()(X x, X target, S dy) const {
    return convert<X>(two * (convert<S>(x) - convert<S>(target)) * dy);
  }
};

// Threads add in f32 or wider, then join in f64. Bytes moved: one read of x and target.
template <class X>
__global__ void __launch_bounds__(threads)
    sum_squares(const X* x, const X* target, int64_t n, bool aligned, double* parts) {
  constexpr int v = 16 / sizeof(X);
  __shared__ double shared[threads / 32];
  const int64_t end = min(n, (blockIdx.x + int64_t{1}) * tile);
  compute_t<X> sum = 0;
#pragma unroll 4
  for (int64_t i = blockIdx.x * tile + threadIdx.x * v; i < end; i += threads * v) {
    const auto a = load_pack<v>(x + i, end - i, aligned), b = load_pack<v>(target + i, end - i, aligned);
    compute_t<X> part = 0;
#pragma unroll
    for (int k = 0; k < v; ++k) part += Square<X>()(a.values[k], b.values[k]);
    sum += part;
  }
  const double total = block_reduce(static_cast<double>(sum), Plus(), shared);
  if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

template <class S>
__global__ void __launch_bounds__(1024) join_parts(const double* parts, int64_t count, double divisor, S* y) {
  const double total = sum_of<double>(parts, count);
  if (threadIdx.x == 0) *y = static_cast<S>(total / divisor);
}

void mse_loss(ConstView x, ConstView target, Reduction reduction, View y) {
  visit_float(x.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    if (reduction == Reduction::none) return map<S, X, X>(Square<X>(), y, x, target);
    const int64_t n = x.numel(), tiles = ceil_div(n, tile);
    const Scratch parts(x.device(), static_cast<size_t>(tiles) * sizeof(double));
    launch(sum_squares<X>, x.device(), static_cast<unsigned>(tiles), threads, 0, x.data<X>(), target.data<X>(), n,
           is_aligned(x.raw(), 16) && is_aligned(target.raw(), 16), parts.data<double>());
    launch(join_parts<S>, x.device(), 1, 1024, 0, parts.data<double>(), tiles,
           reduction == Reduction::mean ? static_cast<double>(n) : 1.0, y.data<S>());
  });
}

void mse_loss_grad(ConstView x, ConstView target, ConstView dy, Reduction reduction, double sign, View dx) {
  visit_float(x.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    const S two = static_cast<S>(2 * sign);
    if (reduction == Reduction::none) return map<X, X, X, S>(SlopeOfEach<X>{two}, dx, x, target, dy);
    const S count = reduction == Reduction::mean ? static_cast<S>(x.numel()) : S(1);
    map<X, X, X>(Slope<X>{two, count, dy.data<S>()}, dx, x, target);
  });
}

const Registered registered_mse_loss(DeviceType::cuda, kernels::mse_loss, mse_loss);
const Registered registered_mse_loss_grad(DeviceType::cuda, kernels::mse_loss_grad, mse_loss_grad);

}  // namespace
}  // namespace mahia::cuda
