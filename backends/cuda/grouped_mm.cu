// SPDX-License-Identifier: Apache-2.0
#include "ops/grouped_mm.hpp"

#include "backends/cuda/launch.cuh"
#include "backends/cuda/product.cuh"
#include "backends/cuda/tensor_map.cuh"
#include "backends/cuda/wgmma_product.cuh"

namespace mahia::cuda {
namespace {

// Where the rows of each group lie; offsets outside [0, rows] are cut, so that no kernel leaves its memory.
struct Groups {
  const int32_t* offsets;
  int count, rows;

  __device__ int begin(int e) const { return min(max(offsets[e], 0), rows); }
  __device__ int end(int e) const { return begin(e + 1); }

  // One thread's part of the check that offsets ascend from 0 to rows.
  __device__ void check(int e, Fault* fault, int site) const {
    const int here = offsets[e];
    if (e < count ? here > offsets[e + 1] || (e == 0 && here != 0) : here != rows)
      set_fault(fault, FaultCode::offsets, site, e, here, rows);
  }
};

// A group's rows [first, last) that one tile covers.
struct RowTile {
  int group = -1, first = 0, last = 0;
};

// Finds the tiles when each group is cut into tiles of `height` rows.
struct TileSearch {
  Groups groups;
  int height;
  int first = 0, passed = 0;  // the groups before `first` have `passed` tiles

  // Tile number t, which never descends from call to call. All threads of a warp call it together: each lane looks at
  // one group at a time.
  __device__ RowTile find(int t) {
    const int lane = threadIdx.x % 32;
    for (; first < groups.count; first += 32) {
      const int e = first + lane;
      const int begin = e < groups.count ? groups.begin(e) : 0, end = e < groups.count ? groups.end(e) : 0;
      const int tiles = end > begin ? (end - begin + height - 1) / height : 0;
      int sum = passed + tiles;  // of this and the lanes before
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(0xffffffffu, sum - passed, step);
        if (lane >= step) sum += other;
      }
      const unsigned beyond = __ballot_sync(0xffffffffu, sum > t);
      if (beyond == 0) {
        passed = __shfl_sync(0xffffffffu, sum, 31);
        continue;
      }
      const int owner = __ffs(static_cast<int>(beyond)) - 1;
      const int row = begin + (t - (sum - tiles)) * height;
      return {first + owner, __shfl_sync(0xffffffffu, row, owner), __shfl_sync(0xffffffffu, end, owner)};
    }
    return {};
  }
};

template <class T>
struct Strided {
  T* data;
  int64_t outer, row, col;  // steps in elements
};

template <class T, class S>
__device__ void store_pair(T* to, S first, S second, bool has_second) {
  if constexpr (sizeof(T) == 2) {
    if (has_second && reinterpret_cast<uintptr_t>(to) % 4 == 0) {
      const T low = convert<T>(first), high = convert<T>(second);
      *reinterpret_cast<uint32_t*>(to) = low.bits | static_cast<uint32_t>(high.bits) << 16;
      return;
    }
  }
  to[0] = convert<T>(first);
  if (has_second) to[1] = convert<T>(second);
}

// y[i] = weight[e] x[i] + bias[e]. Blocks in one row of tiles are neighbours: they share the rows of x and meet the
// weights of one group in the second-level cache.
template <class Product, class T = typename Product::Number>
__global__ void __launch_bounds__(Product::threads, 2)
    rows_kernel(Groups groups, Strided<const T> x, Strided<const T> weight, const T* bias, Strided<T> y, int in,
                int out, Fault* fault, int site) {
  extern __shared__ __align__(128) char shared[];
  if (blockIdx.x == 0) {
    for (int e = static_cast<int>(threadIdx.x); e <= groups.count; e += Product::threads) groups.check(e, fault, site);
  }
  const int columns = (out + Product::cols - 1) / Product::cols;
  const RowTile tile = TileSearch{groups, Product::rows}.find(static_cast<int>(blockIdx.x) / columns);
  if (tile.group < 0) return;
  const int col0 = static_cast<int>(blockIdx.x) % columns * Product::cols;
  const Factor<T> a{x.data + tile.first * x.row, x.row, x.col, tile.last - tile.first, in};
  const Factor<T> b{weight.data + tile.group * weight.outer + col0 * weight.row, weight.row, weight.col, out - col0,
                    in};
  Product product;
  product.run(a, b, shared);
  product.each_pair([&](int row, int col, auto first, auto second) {
    col += col0;
    if (row >= a.lines || col >= out) return;
    const bool has_second = col + 1 < out;
    if (bias != nullptr) {
      using S = decltype(first);
      const T* add = bias + static_cast<int64_t>(tile.group) * out + col;
      first += convert<S>(add[0]);
      if (has_second) second += convert<S>(add[1]);
    }
    store_pair(y.data + (tile.first + row) * y.row + col, first, second, has_second);
  });
}

// dweight[e] = dy[group]^T x[group]; block z is the group.
template <class Product, class T = typename Product::Number>
__global__ void __launch_bounds__(Product::threads, 2)
    weight_kernel(Groups groups, const T* x, const T* dy, T* dweight, int in, int out, Fault* fault, int site) {
  extern __shared__ __align__(128) char shared[];
  if (blockIdx.x == 0 && blockIdx.y == 0) {
    for (int e = static_cast<int>(threadIdx.x); e <= groups.count; e += Product::threads) groups.check(e, fault, site);
  }
  const int columns = (in + Product::cols - 1) / Product::cols;
  const int row0 = static_cast<int>(blockIdx.x) / columns * Product::rows;
  const int col0 = static_cast<int>(blockIdx.x) % columns * Product::cols;
  for (int e = static_cast<int>(blockIdx.y); e < groups.count; e += static_cast<int>(gridDim.y)) {
    const int64_t begin = groups.begin(e);
    const int depth = max(groups.end(e) - static_cast<int>(begin), 0);
    const Factor<T> a{dy + begin * out + row0, 1, out, out - row0, depth};
    const Factor<T> b{x + begin * in + col0, 1, in, in - col0, depth};
    Product product;
    product.run(a, b, shared);
    T* to = dweight + static_cast<int64_t>(e) * out * in;
    product.each_pair([&](int row, int col, auto first, auto second) {
      row += row0;
      col += col0;
      if (row < out && col < in) store_pair(to + static_cast<int64_t>(row) * in + col, first, second, col + 1 < in);
    });
  }
}

// The same products on Hopper: the blocks stay and take every gridDim.x-th tile. 2 N in out operations; on an H100 at
// its power limit 510 to 770 TFLOP/s of 989 with 1000 rows or more in a group, 430 to 520 with 500 rows of 768 numbers.

// y[i] = weight[e] x[i] + bias[e]; tiles in one row of tiles are neighbours.
struct RowsTask {
  Groups groups;
  TileSearch search;
  int columns, in, out;  // columns of tiles
  const bfloat16* bias;
  Strided<bfloat16> y;

  template <class Product>
  __device__ Work find(int t) {
    const RowTile tile = search.find(t / columns);
    if (tile.group < 0) return {};
    return {tile.group, tile.first, tile.last - tile.first, t % columns * Product::cols, tile.group, 0, in};
  }
  template <class Product>
  __device__ void finish(Product& product, const Work& work) const {
    const bfloat16* add = bias == nullptr ? nullptr : bias + static_cast<int64_t>(work.group) * out + work.col;
    product.store(y.data + work.row * y.row + work.col, y.row, work.rows, out - work.col, add);
  }
};

// dweight[e] = dy[group]^T x[group]; a group's tiles are neighbours.
struct WeightTask {
  Groups groups;
  int columns, tiles, in, out;  // columns of tiles, and tiles of a group
  bfloat16* dweight;

  template <class Product>
  __device__ Work find(int t) const {
    const int e = t / tiles;
    if (e >= groups.count) return {};
    const int row = t % tiles / columns * Product::rows, begin = groups.begin(e);
    return {e, row, out - row, t % columns * Product::cols, 0, begin, max(groups.end(e) - begin, 0)};
  }
  template <class Product>
  __device__ void finish(Product& product, const Work& work) const {
    bfloat16* to = dweight + (static_cast<int64_t>(work.group) * out + work.row) * in + work.col;
    product.store(to, in, work.rows, in - work.col);
  }
};

template <class Product, class Task>
__global__ void __launch_bounds__(Product::threads, 1)
    task_kernel(Task task, const __grid_constant__ CUtensorMap map_a, const __grid_constant__ CUtensorMap map_b,
                Fault* fault, int site) {
#if __CUDA_ARCH__ == 900
  extern __shared__ __align__(128) char shared[];
  const Groups& groups = task.groups;
  if (blockIdx.x == 0) {
    for (int e = static_cast<int>(threadIdx.x); e <= groups.count; e += Product::threads) groups.check(e, fault, site);
  }
  Product product(shared);
  const auto each_tile = [&](auto body) {
    for (int t = static_cast<int>(blockIdx.x);; t += static_cast<int>(gridDim.x)) {
      const Work work = task.template find<Product>(t);
      if (work.group < 0) return;
      body(work);
    }
  };
  if (Product::loads()) {
    give_registers<40>();
    if (threadIdx.x >= Product::consumers + 32) return;
    each_tile([&](const Work& work) {
      if (threadIdx.x % 32 == 0) product.load(work, map_a, map_b);
      __syncwarp();
    });
  } else {
    take_registers<232>();
    each_tile([&](const Work& work) {
      product.multiply(work);
      task.finish(product, work);
    });
  }
#endif
}

constexpr int bias_columns = 32, bias_lanes = 32;

// dbias[e] = the sum of the group's rows: 32 lanes take every 32nd row each, then their sums are added in order.
template <class T>
__global__ void __launch_bounds__(bias_columns* bias_lanes) bias_kernel(Groups groups, const T* dy, T* dbias, int out) {
  using S = compute_t<T>;
  __shared__ S sums[bias_lanes][bias_columns + 1];
  const int col = static_cast<int>(blockIdx.x) * bias_columns + threadIdx.x;
  for (int e = static_cast<int>(blockIdx.y); e < groups.count; e += static_cast<int>(gridDim.y)) {
    S sum{0};
    if (col < out) {
      for (int64_t row = groups.begin(e) + static_cast<int>(threadIdx.y); row < groups.end(e); row += bias_lanes)
        sum += convert<S>(dy[row * out + col]);
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && col < out) {
      for (int lane = 1; lane < bias_lanes; ++lane) sum += sums[lane][threadIdx.x];
      dbias[static_cast<int64_t>(e) * out + col] = convert<T>(sum);
    }
    __syncthreads();
  }
}

template <class T>
Strided<const T> matrices(const ConstView& v) {
  const bool many = v.rank() == 3;
  return {v.data<T>(), many ? v.stride(0) : 0, v.stride(-2), v.stride(-1)};
}

Groups groups_of(const ConstView& offsets, int64_t rows) {
  return {offsets.data<int32_t>(), static_cast<int>(offsets.numel() - 1), static_cast<int>(rows)};
}

template <class Product, class T = typename Product::Number>
void launch_rows(const ConstView& x, const ConstView& weight, const ConstView& offsets, const ConstView& bias,
                 const View& y) {
  allow_shared<rows_kernel<Product>>(x.device(), Product::shared_bytes);
  const Device device = x.device();
  const int64_t out = weight.size(1), columns = ceil_div(out, Product::cols);
  const int64_t row_tiles = x.size(0) / Product::rows + weight.size(0);  // an upper bound
  launch(rows_kernel<Product>, device, static_cast<unsigned>(row_tiles * columns), Product::threads,
         Product::shared_bytes, groups_of(offsets, x.size(0)), matrices<T>(x), matrices<T>(weight),
         bias.defined() ? bias.data<T>() : nullptr, Strided<T>{y.data<T>(), 0, y.stride(0), 1},
         static_cast<int>(x.size(1)), static_cast<int>(out), fault_of(device), fault_site("grouped_mm"));
}

bool is_hopper(Device device) {
  int major = 0;
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device.index), "cudaDeviceGetAttribute");
  return major == 9;
}

template <class Product, class Task>
void launch_task(Device device, const Task& task, const CUtensorMap& map_a, const CUtensorMap& map_b, int64_t tiles) {
  allow_shared<task_kernel<Product, Task>>(device, Product::shared_bytes);
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(tiles, multiprocessors(device)));
  launch(task_kernel<Product, Task>, device, blocks, Product::threads, Product::shared_bytes, task, map_a, map_b,
         fault_of(device), fault_site("grouped_mm"));
}

template <bool AlongKOfWeight>
void launch_rows_task(const ConstView& x, const ConstView& weight, const ConstView& offsets, const ConstView& bias,
                      const View& y) {
  using Product = WgmmaProduct<true, AlongKOfWeight>;
  const Groups groups = groups_of(offsets, x.size(0));
  const int in = static_cast<int>(x.size(1)), out = static_cast<int>(weight.size(1));
  const int columns = static_cast<int>(ceil_div(out, Product::cols));
  const RowsTask task{groups,
                      {groups, Product::rows},
                      columns,
                      in,
                      out,
                      bias.defined() ? bias.data<bfloat16>() : nullptr,
                      {y.data<bfloat16>(), 0, y.stride(0), 1}};
  const int64_t row_tiles = x.size(0) / Product::rows + groups.count;  // an upper bound
  launch_task<Product>(x.device(), task, tensor_map(x, 1), tensor_map(weight, AlongKOfWeight ? 2 : 1),
                       row_tiles * columns);
}

void launch_weight_task(const ConstView& x, const ConstView& dy, const ConstView& offsets, const View& dweight) {
  using Product = WgmmaProduct<false, false>;
  const int in = static_cast<int>(x.size(1)), out = static_cast<int>(dy.size(1));
  const int columns = static_cast<int>(ceil_div(in, Product::cols));
  const int tiles = static_cast<int>(ceil_div(out, Product::rows)) * columns;
  const WeightTask task{groups_of(offsets, x.size(0)), columns, tiles, in, out, dweight.data<bfloat16>()};
  launch_task<Product>(x.device(), task, tensor_map(dy, 1), tensor_map(x, 1), dweight.size(0) * tiles);
}

// Whether the unit axis of a view suits copies of 16 bytes.
bool is_vector_aligned(const ConstView& v, int unit_axis) {
  if (reinterpret_cast<uintptr_t>(v.raw()) % 16 != 0 || v.stride(unit_axis) != 1 || v.size(unit_axis) % 8 != 0)
    return false;
  for (int axis = 0; axis < v.rank(); ++axis) {
    if (v.stride(axis) != 1 && v.stride(axis) % 8 != 0) return false;
  }
  return true;
}

// bf16 on the tensor cores: by WgmmaProduct on Hopper, by TensorProduct on other chips and for broadcast rows.
void grouped_mm(ConstView x, ConstView weight, ConstView offsets, ConstView bias, View y) {
  if (y.numel() == 0) return;
  if (x.dtype() == DType::bf16 && is_hopper(x.device()) && has_tensor_map(x, 1)) {
    if (has_tensor_map(weight, 2)) return launch_rows_task<true>(x, weight, offsets, bias, y);
    if (has_tensor_map(weight, 1)) return launch_rows_task<false>(x, weight, offsets, bias, y);
  }
  if (x.dtype() == DType::bf16 && is_vector_aligned(x, 1)) {
    if (is_vector_aligned(weight, 2)) return launch_rows<TensorProduct<true, true>>(x, weight, offsets, bias, y);
    if (is_vector_aligned(weight, 1)) return launch_rows<TensorProduct<true, false>>(x, weight, offsets, bias, y);
  }
  visit_float(x.dtype(), [&]<class T>() { launch_rows<PlainProduct<T>>(x, weight, offsets, bias, y); });
}

template <class Product, class T = typename Product::Number>
void launch_weight(const ConstView& x, const ConstView& dy, const ConstView& offsets, const View& dweight) {
  allow_shared<weight_kernel<Product>>(x.device(), Product::shared_bytes);
  const Device device = x.device();
  const int64_t in = x.size(1), out = dy.size(1);
  const dim3 grid(static_cast<unsigned>(ceil_div(out, Product::rows) * ceil_div(in, Product::cols)),
                  static_cast<unsigned>(std::min<int64_t>(dweight.size(0), 65535)));
  launch(weight_kernel<Product>, device, grid, Product::threads, Product::shared_bytes, groups_of(offsets, x.size(0)),
         x.data<T>(), dy.data<T>(), dweight.data<T>(), static_cast<int>(in), static_cast<int>(out), fault_of(device),
         fault_site("grouped_mm"));
}

void grouped_mm_weight_grad(ConstView x, ConstView dy, ConstView offsets, View dweight, View dbias) {
  if (dbias.defined() && dbias.numel() > 0) {
    const dim3 grid(blocks_for(dbias.size(1), bias_columns),
                    static_cast<unsigned>(std::min<int64_t>(dbias.size(0), 65535)));
    visit_float(dy.dtype(), [&]<class T>() {
      launch(bias_kernel<T>, dy.device(), grid, dim3(bias_columns, bias_lanes), 0, groups_of(offsets, dy.size(0)),
             dy.data<T>(), dbias.data<T>(), static_cast<int>(dy.size(1)));
    });
  }
  if (!dweight.defined() || dweight.numel() == 0) return;
  if (x.dtype() == DType::bf16 && is_hopper(x.device()) && has_tensor_map(x, 1) && has_tensor_map(dy, 1))
    return launch_weight_task(x, dy, offsets, dweight);
  if (x.dtype() == DType::bf16 && is_vector_aligned(x, 1) && is_vector_aligned(dy, 1))
    return launch_weight<TensorProduct<false, false>>(x, dy, offsets, dweight);
  visit_float(x.dtype(), [&]<class T>() { launch_weight<PlainProduct<T>>(x, dy, offsets, dweight); });
}

const Registered registered_grouped_mm(DeviceType::cuda, kernels::grouped_mm, grouped_mm);
const Registered registered_grouped_mm_weight_grad(DeviceType::cuda, kernels::grouped_mm_weight_grad,
                                                   grouped_mm_weight_grad);

}  // namespace
}  // namespace mahia::cuda
