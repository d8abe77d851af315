// SPDX-License-Identifier: Apache-2.0
#include "core/copy.hpp"

#include "backends/cuda/elementwise.cuh"
#include "backends/cuda/rows.cuh"
#include "core/scratch.hpp"

namespace mahia::cuda {
namespace {

template <class Y, class X>
struct Convert {
  __device__ Y operator()(X x) const { return convert<Y>(x); }
};

template <class Y>
struct Constant {
  double value;
  __device__ Y operator()() const { return convert<Y>(value); }
};

template <class Y, class X>
struct Sum {
  __device__ Y operator()(Y y, X x) const {
    using S = compute_t<Y>;
    return convert<Y>(convert<S>(y) + convert<S>(x));
  }
};

constexpr int square = 32, square_rows = 8;

// y (outer, rows, cols) with unit column stride = x with unit row stride, through squares in shared memory, so that
// both sides move whole cache lines. One word of padding per row keeps the banks apart.
template <class T>
__global__ void transpose_kernel(const T* x, T* y, int64_t rows, int64_t cols, int64_t x_outer, int64_t x_column,
                                 int64_t y_outer, int64_t y_row) {
  __shared__ T tile[square][square + 1];
  const int64_t r0 = static_cast<int64_t>(blockIdx.x) * square;
  x += blockIdx.z * x_outer;
  y += blockIdx.z * y_outer;
  for (int64_t c0 = static_cast<int64_t>(blockIdx.y) * square; c0 < cols;
       c0 += static_cast<int64_t>(gridDim.y) * square) {
    for (int j = threadIdx.y; j < square; j += square_rows) {
      const int64_t r = r0 + threadIdx.x, c = c0 + j;
      if (r < rows && c < cols) tile[j][threadIdx.x] = x[r + c * x_column];
    }
    __syncthreads();
    for (int j = threadIdx.y; j < square; j += square_rows) {
      const int64_t r = r0 + j, c = c0 + threadIdx.x;
      if (r < rows && c < cols) y[r * y_row + c] = tile[threadIdx.x][j];
    }
    __syncthreads();
  }
}

// Whether the squares fit: one outer axis at most, equal dtypes, both sides with a unit stride along the other's axis.
bool is_transposed(const ConstView& x, const View& y) {
  return x.dtype() == y.dtype() && (y.rank() == 2 || y.rank() == 3) && y.stride(-1) == 1 && x.stride(-2) == 1 &&
         x.stride(-1) != 1 && y.size(-1) >= 8 && y.size(-2) >= 8 && (y.rank() == 2 || y.size(0) < 65536);
}

template <class T>
void transpose(const ConstView& x, const View& y) {
  const bool outer = y.rank() == 3;
  const int64_t rows = y.size(-2), cols = y.size(-1);
  const dim3 grid(blocks_for(rows, square), static_cast<unsigned>(std::min<int64_t>(ceil_div(cols, square), 65535)),
                  outer ? static_cast<unsigned>(y.size(0)) : 1);
  launch(transpose_kernel<T>, y.device(), grid, dim3(square, square_rows), 0, x.data<T>(), y.data<T>(), rows, cols,
         outer ? x.stride(0) : 0, x.stride(-1), outer ? y.stride(0) : 0, y.stride(-2));
}

void copy(ConstView x, View y) {
  if (y.numel() == 0) return;
  if (x.dtype() == y.dtype() && x.is_contiguous() && y.is_contiguous()) {
    check_cuda(cudaMemcpyAsync(y.raw(), x.raw(), static_cast<size_t>(y.numel()) * size_of(y.dtype()),
                               cudaMemcpyDeviceToDevice, stream_of(y.device())),
               "copy");
    add_launches(1);
    return;
  }
  visit_any(y.dtype(), [&]<class Y>() {
    if (is_transposed(x, y)) return transpose<Y>(x, y);
    visit_any(x.dtype(), [&]<class X>() { map<Y, X>(Convert<Y, X>{}, y, x); });
  });
}

void fill(View y, double value) {
  visit_any(y.dtype(), [&]<class Y>() { map<Y>(Constant<Y>{value}, y); });
}

// y += x; the sum of two bf16 numbers is rounded once from f32.
void add_into(ConstView x, View y) {
  visit_float(y.dtype(),
              [&]<class Y>() { visit_float(x.dtype(), [&]<class X>() { map<Y, Y, X>(Sum<Y, X>{}, y, y, x); }); });
}

// Box-Muller in f64 on two uniforms per pair: words (0, 1) make elements 4b and 4b + 1, words (2, 3) the next two.
__device__ void normals(const std::array<uint32_t, 4>& words, double (&out)[4]) {
#pragma unroll
  for (int pair = 0; pair < 2; ++pair) {
    const double u1 = (static_cast<double>(words[2 * pair]) + 1.0) * 0x1p-32;  // (0, 1]
    const double u2 = static_cast<double>(words[2 * pair + 1]) * 0x1p-32;
    const double radius = ::sqrt(-2 * ::log(u1));
    double s, c;
    ::sincospi(2 * u2, &s, &c);
    out[2 * pair] = radius * c;
    out[2 * pair + 1] = radius * s;
  }
}

template <class Y>
__global__ void random_kernel(Y* y, int64_t n, RandomCall call, bool normal, const uint64_t* step_offset) {
  const int64_t block = thread_number();
  if (block * 4 >= n) return;
  call.step += *step_offset;
  const auto words = random_words(call, static_cast<uint64_t>(block));
  double values[4];
  if (normal) {
    normals(words, values);
  } else {
#pragma unroll
    for (int k = 0; k < 4; ++k) values[k] = static_cast<double>(uniform(words[k]));
  }
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (block * 4 + k < n) y[block * 4 + k] = convert<Y>(values[k]);
  }
}

void random_fill(View y, RandomCall call, bool normal) {
  visit_float(y.dtype(), [&]<class Y>() {
    launch(random_kernel<Y>, y.device(), blocks_for(ceil_div(y.numel(), 4), map_threads), map_threads, 0, y.data<Y>(),
           y.numel(), call, normal, step_offset_of(y.device()));
  });
}

constexpr int count_blocks = 512;

template <class X>
__global__ void count_kernel(const X* x, int64_t n, int64_t* partial) {
  __shared__ int64_t shared[map_threads / 32];
  int64_t bad = 0;
  for (int64_t i = thread_number(); i < n; i += static_cast<int64_t>(gridDim.x) * map_threads) {
    bad += !isfinite(convert<compute_t<X>>(x[i]));
  }
  bad = block_reduce(bad, Plus{}, shared);
  if (threadIdx.x == 0) partial[blockIdx.x] = bad;
}

__global__ void total_kernel(const int64_t* partial, int64_t n, int64_t* total) {
  const int64_t sum = sum_of<int64_t>(partial, n);
  if (threadIdx.x == 0) *total = sum;
}

void count_nonfinite(ConstView x, View count) {
  const int64_t blocks = std::min<int64_t>(count_blocks, ceil_div(x.numel(), map_threads));
  const Scratch scratch(x.device(), count_blocks * sizeof(int64_t));
  visit_float(x.dtype(), [&]<class X>() {
    launch(count_kernel<X>, x.device(), static_cast<unsigned>(blocks), map_threads, 0, x.data<X>(), x.numel(),
           scratch.data<int64_t>());
  });
  launch(total_kernel, x.device(), 1, map_threads, 0, scratch.data<int64_t>(), blocks, count.data<int64_t>());
}

template <class X>
__global__ void finite_kernel(const X* x, int64_t n, Fault* fault, int site) {
  const int64_t i = thread_number();
  if (i >= n) return;
  const auto value = convert<compute_t<X>>(x[i]);
  if (!isfinite(value))
    set_fault(fault, FaultCode::nonfinite, site, i, __double_as_longlong(static_cast<double>(value)), 0);
}

void check_finite(ConstView x, const char* what) {
  visit_float(x.dtype(), [&]<class X>() {
    launch(finite_kernel<X>, x.device(), blocks_for(x.numel(), map_threads), map_threads, 0, x.data<X>(), x.numel(),
           fault_of(x.device()), fault_site(what));
  });
}

__global__ void commit_kernel(const std::byte* x, std::byte* y, int64_t n, const Fault* fault) {
  const int64_t i = thread_number();
  if (i < n && fault->code == FaultCode::none) y[i] = x[i];
}

// For few bytes: one per thread.
void commit(ConstView x, View y) {
  const int64_t n = y.numel() * static_cast<int64_t>(size_of(y.dtype()));
  launch(commit_kernel, y.device(), blocks_for(n, map_threads), map_threads, 0, static_cast<const std::byte*>(x.raw()),
         static_cast<std::byte*>(y.raw()), n, fault_of(y.device()));
}

__global__ void set_bytes_kernel(std::byte* y, int64_t n, kernels::FewBytes bytes) {
  if (threadIdx.x < n) y[threadIdx.x] = bytes[threadIdx.x];
}

void set_bytes(View y, kernels::FewBytes bytes) {
  const int64_t n = y.numel() * static_cast<int64_t>(size_of(y.dtype()));
  launch(set_bytes_kernel, y.device(), 1, sizeof(bytes), 0, static_cast<std::byte*>(y.raw()), n, bytes);
}

const Registered registered_copy(DeviceType::cuda, kernels::copy, copy);
const Registered registered_commit(DeviceType::cuda, kernels::commit, commit);
const Registered registered_fill(DeviceType::cuda, kernels::fill, fill);
const Registered registered_add_into(DeviceType::cuda, kernels::add_into, add_into);
const Registered registered_random_fill(DeviceType::cuda, kernels::random_fill, random_fill);
const Registered registered_count_nonfinite(DeviceType::cuda, kernels::count_nonfinite, count_nonfinite);
const Registered registered_check_finite(DeviceType::cuda, kernels::check_finite, check_finite);
const Registered registered_set_bytes(DeviceType::cuda, kernels::set_bytes, set_bytes);

}  // namespace
}  // namespace mahia::cuda
