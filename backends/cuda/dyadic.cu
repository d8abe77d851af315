// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/dyadic.hpp"

#include "backends/cuda/launch.cuh"
#include "core/scratch.hpp"

// Transforms by radix 2, in a block's shared memory up to `in_block` numbers and in passes over memory above: decimated
// in frequency on the way in, so that spectra lie in bit-reversed order, and in time on the way out.
namespace mahia::cuda {
namespace {

constexpr int threads = 256;
constexpr int base = static_cast<int>(DyadicTiling::base);
constexpr int64_t most_rows_of_grid = 65535;
constexpr size_t scratch_limit = size_t{512} << 20;

template <class T>
struct alignas(2 * sizeof(T)) Complex {
  T re, im;
};
template <class T>
inline constexpr int64_t in_block = (32 << 10) / static_cast<int64_t>(sizeof(Complex<T>));

template <class T>
__device__ Complex<T> operator+(Complex<T> a, Complex<T> b) {
  return {a.re + b.re, a.im + b.im};
}
template <class T>
__device__ Complex<T> operator-(Complex<T> a, Complex<T> b) {
  return {a.re - b.re, a.im - b.im};
}
template <class T>
__device__ Complex<T> operator*(Complex<T> a, Complex<T> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
template <class T>
__device__ Complex<T> conj(Complex<T> a) {
  return {a.re, -a.im};
}

// exp(i pi j / n) for a power of two n.
__device__ Complex<float> unit(int64_t j, int64_t n) {
  Complex<float> z;
  sincospif(static_cast<float>(j) / static_cast<float>(n), &z.im, &z.re);
  return z;
}
__device__ Complex<double> unit_f64(int64_t j, int64_t n) {
  Complex<double> z;
  sincospi(static_cast<double>(j) / static_cast<double>(n), &z.im, &z.re);
  return z;
}
template <class T>
__device__ Complex<T> root(int64_t j, int64_t n) {
  if constexpr (sizeof(T) == 8) return unit_f64(j, n);
  if constexpr (sizeof(T) == 4) return unit(j, n);
}

// Butterfly i of the pass whose operands are `half` apart.
template <class T>
__device__ void split(Complex<T>* x, int64_t i, int64_t half) {
  const int64_t k = i & (half - 1), a = 2 * (i - k) + k, b = a + half;
  const Complex<T> left = x[a], right = x[b];
  x[a] = left + right;
  x[b] = (left - right) * root<T>(-k, half);
}
template <class T>
__device__ void join(Complex<T>* x, int64_t i, int64_t half) {
  const int64_t k = i & (half - 1), a = 2 * (i - k) + k, b = a + half;
  const Complex<T> left = x[a], right = x[b] * root<T>(k, half);
  x[a] = left + right;
  x[b] = left - right;
}

// By all threads of the block, n numbers in shared memory.
template <class T>
__device__ void transform(Complex<T>* x, int64_t n) {
  for (int64_t half = n / 2; half > 0; half /= 2) {
    __syncthreads();
    for (int64_t i = threadIdx.x; i < n / 2; i += threads) split(x, i, half);
  }
  __syncthreads();
}
template <class T>
__device__ void transform_back(Complex<T>* x, int64_t n) {
  for (int64_t half = 1; half < n; half *= 2) {
    __syncthreads();
    for (int64_t i = threadIdx.x; i < n / 2; i += threads) join(x, i, half);
  }
  __syncthreads();
}

// Tiles of n inputs at first, first + step, ... in each row.
struct Level {
  int64_t n, first, step, count;
};

template <class T>
struct Tiles {
  const T* in;
  T* out;
  const T* filter;
  int64_t rows, channels, length, filter_step;
  Level level;
  bool transposed;

  __device__ const Complex<T>* spectrum(int64_t row) const {
    return reinterpret_cast<const Complex<T>*>(filter + row % channels * filter_step + 2 * level.n);
  }
  // Number j of what the tile reads, turned for the transform modulo z^n + i.
  __device__ Complex<T> read(int64_t row, int64_t tile, int64_t j) const {
    const int64_t position = level.first + tile * level.step, t = (transposed ? position : position - level.n) + j;
    const T value = t < length ? in[row * length + t] : T(0);
    const Complex<T> turn = root<T>(-j, 2 * level.n);
    return {value * turn.re, value * turn.im};
  }
  __device__ Complex<T> product(Complex<T> x, Complex<T> factor) const {
    return x * (transposed ? conj(factor) : factor);
  }
  __device__ void add(int64_t row, int64_t tile, int64_t j, Complex<T> x) const {
    const int64_t position = level.first + tile * level.step, t = (transposed ? position - level.n : position) + j;
    if (t < length) out[row * length + t] += (x * root<T>(j, 2 * level.n)).re / static_cast<T>(level.n);
  }
};

template <class T>
__global__ void __launch_bounds__(threads) block_tiles_kernel(const Tiles<T> tiles) {
  extern __shared__ __align__(16) char shared[];
  auto* const x = reinterpret_cast<Complex<T>*>(shared);
  const int64_t n = tiles.level.n, tile = blockIdx.x;
  for (int64_t row = blockIdx.y; row < tiles.rows; row += gridDim.y) {
    for (int64_t j = threadIdx.x; j < n; j += threads) x[j] = tiles.read(row, tile, j);
    transform(x, n);
    const Complex<T>* const factors = tiles.spectrum(row);
    for (int64_t k = threadIdx.x; k < n; k += threads) x[k] = tiles.product(x[k], factors[k]);
    transform_back(x, n);
    for (int64_t j = threadIdx.x; j < n; j += threads) tiles.add(row, tile, j, x[j]);
    __syncthreads();
  }
}

// Tiles too large for a block: x has n numbers for each tile, a row's tiles one after another, from row `first` on.
template <class T>
__global__ void __launch_bounds__(threads)
    read_kernel(const Tiles<T> tiles, Complex<T>* x, int64_t first, int64_t all) {
  const int64_t i = thread_number(), n = tiles.level.n;
  if (i < all) x[i] = tiles.read(first + i / n / tiles.level.count, i / n % tiles.level.count, i % n);
}
template <class T>
__global__ void __launch_bounds__(threads)
    add_kernel(const Tiles<T> tiles, const Complex<T>* x, int64_t first, int64_t all) {
  const int64_t i = thread_number(), n = tiles.level.n;
  if (i < all) tiles.add(first + i / n / tiles.level.count, i / n % tiles.level.count, i % n, x[i]);
}
template <class T>
__global__ void __launch_bounds__(threads)
    pass_kernel(Complex<T>* x, int64_t n, int64_t pitch, int64_t half, int64_t butterflies, bool back) {
  const int64_t i = thread_number();
  if (i >= butterflies) return;
  Complex<T>* const of_tile = x + i / (n / 2) * pitch;
  back ? join(of_tile, i % (n / 2), half) : split(of_tile, i % (n / 2), half);
}
// The middle of the way: pieces of in_block numbers in, times the spectrum, out.
template <class T>
__global__ void __launch_bounds__(threads) piece_kernel(const Tiles<T> tiles, Complex<T>* x, int64_t first) {
  extern __shared__ __align__(16) char shared[];
  auto* const piece = reinterpret_cast<Complex<T>*>(shared);
  constexpr int64_t size = in_block<T>;
  const int64_t begin = blockIdx.x * size, n = tiles.level.n;
  const Complex<T>* const factors = tiles.spectrum(first + begin / n / tiles.level.count) + begin % n;
  for (int64_t j = threadIdx.x; j < size; j += threads) piece[j] = x[begin + j];
  transform(piece, size);
  for (int64_t k = threadIdx.x; k < size; k += threads) piece[k] = tiles.product(piece[k], factors[k]);
  transform_back(piece, size);
  for (int64_t j = threadIdx.x; j < size; j += threads) x[begin + j] = piece[j];
}

template <class T>
void passes(Device device, Complex<T>* x, int64_t n, int64_t pitch, int64_t tiles, bool back) {
  const int64_t butterflies = tiles * (n / 2);
  const auto pass = [&](int64_t half) {
    launch(pass_kernel<T>, device, blocks_for(butterflies, threads), threads, 0, x, n, pitch, half, butterflies, back);
  };
  if (back) {
    for (int64_t half = in_block<T>; half < n; half *= 2) pass(half);
  } else {
    for (int64_t half = n / 2; half >= in_block<T>; half /= 2) pass(half);
  }
}

template <class T>
void add_large(Device device, const Tiles<T>& tiles) {
  const int64_t n = tiles.level.n, of_row = n * tiles.level.count;
  const auto fitting = static_cast<int64_t>(scratch_limit / sizeof(Complex<T>)) / of_row;
  const int64_t step = std::min(tiles.rows, std::max<int64_t>(1, fitting));
  const Scratch scratch(device, static_cast<size_t>(step * of_row) * sizeof(Complex<T>));
  auto* const x = scratch.data<Complex<T>>();
  for (int64_t first = 0; first < tiles.rows; first += step) {
    const int64_t rows = std::min(step, tiles.rows - first), all = rows * of_row;
    launch(read_kernel<T>, device, blocks_for(all, threads), threads, 0, tiles, x, first, all);
    passes(device, x, n, n, rows * tiles.level.count, false);
    launch(piece_kernel<T>, device, blocks_for(all, in_block<T>), threads, in_block<T> * sizeof(Complex<T>), tiles, x,
           first);
    passes(device, x, n, n, rows * tiles.level.count, true);
    launch(add_kernel<T>, device, blocks_for(all, threads), threads, 0, tiles, x, first, all);
  }
}

// The smallest tiles, a thread for each output: what comes earlier in the row is added first.
template <class T>
__global__ void __launch_bounds__(base) base_tiles_kernel(const Tiles<T> tiles) {
  __shared__ T in[base];
  __shared__ T taps[2 * base];
  const int j = static_cast<int>(threadIdx.x);
  const int64_t position = tiles.level.first + blockIdx.x * tiles.level.step;
  const int64_t from = tiles.transposed ? position : position - base,
                to = tiles.transposed ? position - base : position;
  for (int64_t row = blockIdx.y; row < tiles.rows; row += gridDim.y) {
    const T* const filter = tiles.filter + row % tiles.channels * tiles.filter_step;
    in[j] = from + j < tiles.length ? tiles.in[row * tiles.length + from + j] : T(0);
    taps[j] = filter[j];
    taps[base + j] = filter[base + j];
    __syncthreads();
    T sum = 0;
    for (int i = 0; i < base; ++i) {
      const int lag = tiles.transposed ? base + i - j : base + j - i;
      sum = fma(in[i], taps[lag], sum);
    }
    if (to + j < tiles.length) tiles.out[row * tiles.length + to + j] += sum;
    __syncthreads();
  }
}

// What a block owes to itself.
template <class T>
__global__ void __launch_bounds__(base) blocks_kernel(const Tiles<T> tiles, int64_t end) {
  __shared__ T in[base];
  __shared__ T taps[base];
  const int j = static_cast<int>(threadIdx.x);
  for (int64_t row = blockIdx.y; row < tiles.rows; row += gridDim.y) {
    const int64_t begin = row * tiles.length + static_cast<int64_t>(blockIdx.x) * base;
    in[j] = tiles.in[begin + j];
    taps[j] = tiles.filter[row % tiles.channels * tiles.filter_step + j];
    __syncthreads();
    T sum = 0;
    if (tiles.transposed) {
      for (int i = j; i < base; ++i) sum = fma(in[i], taps[i - j], sum);
    } else {
      for (int i = 0; i <= j; ++i) sum = fma(in[i], taps[j - i], sum);
    }
    if (static_cast<int64_t>(blockIdx.x) * base + j < end) tiles.out[begin + j] += sum;
    __syncthreads();
  }
}

template <class T>
__global__ void first_taps_kernel(const T* h, int64_t taps, const T* skip, T* filter, int64_t step) {
  const int64_t d = blockIdx.x, k = threadIdx.x;
  T value = k < taps ? h[d * taps + k] : T(0);
  if (k == 0 && skip != nullptr) value += skip[d];
  filter[d * step + k] = value;
}

// Taps [0, n) times i and [n, 2n), turned for the transform.
template <class T>
__global__ void __launch_bounds__(threads)
    turned_taps_kernel(const T* h, int64_t taps, T* filter, int64_t step, int64_t n, int64_t all) {
  const int64_t i = thread_number(), d = i / n, j = i % n;
  if (i >= all) return;
  const T low = j < taps ? h[d * taps + j] : T(0), high = n + j < taps ? h[d * taps + n + j] : T(0);
  reinterpret_cast<Complex<T>*>(filter + d * step + 2 * n)[j] = Complex<T>{high, low} * root<T>(-j, 2 * n);
}
template <class T>
__global__ void __launch_bounds__(threads) spectrum_kernel(T* filter, int64_t step, int64_t n, int64_t size) {
  extern __shared__ __align__(16) char shared[];
  auto* const x = reinterpret_cast<Complex<T>*>(shared);
  const int64_t pieces = n / size;
  auto* const piece =
      reinterpret_cast<Complex<T>*>(filter + blockIdx.x / pieces * step + 2 * n) + blockIdx.x % pieces * size;
  for (int64_t j = threadIdx.x; j < size; j += threads) x[j] = piece[j];
  transform(x, size);
  for (int64_t j = threadIdx.x; j < size; j += threads) piece[j] = x[j];
}

template <class T>
void add_level(const DyadicRows<T>& rows, const T* in, T* out, const Level& level) {
  const Tiles<T> tiles{
      in, out, rows.filter, rows.count, rows.channels, rows.length, 4 * rows.tiling.largest(), level, rows.transposed};
  const dim3 grid(static_cast<unsigned>(level.count), static_cast<unsigned>(std::min(rows.count, most_rows_of_grid)));
  if (level.n == base) return launch(base_tiles_kernel<T>, rows.device, grid, base, 0, tiles);
  if (level.n > in_block<T>) return add_large(rows.device, tiles);
  launch(block_tiles_kernel<T>, rows.device, grid, threads, static_cast<size_t>(level.n) * sizeof(Complex<T>), tiles);
}

}  // namespace

template <class T>
void prepare_dyadic(Device device, DyadicTiling tiling, int64_t channels, const T* h, const T* skip, T* filter) {
  const int64_t step = 4 * tiling.largest();
  launch(first_taps_kernel<T>, device, static_cast<unsigned>(channels), 2 * base, 0, h, tiling.taps, skip, filter,
         step);
  for (int64_t n = 2 * base; n <= tiling.largest(); n *= 2) {
    const int64_t all = channels * n, size = std::min(n, in_block<T>);
    launch(turned_taps_kernel<T>, device, blocks_for(all, threads), threads, 0, h, tiling.taps, filter, step, n, all);
    passes(device, reinterpret_cast<Complex<T>*>(filter + 2 * n), n, step / 2, channels, false);
    launch(spectrum_kernel<T>, device, blocks_for(all, size), threads, static_cast<size_t>(size) * sizeof(Complex<T>),
           filter, step, n, size);
  }
}

template <class T>
void add_tiles(const DyadicRows<T>& rows, const T* in, T* out, int64_t end) {
  const int64_t largest = rows.tiling.largest();
  if (rows.tiling.taps == 1) return;
  for (int64_t n = largest; n >= base; n /= 2) {
    const int64_t step = n == largest ? n : 2 * n;
    if (n < end) add_level(rows, in, out, {n, n, step, ceil_div(end - n, step)});
  }
}

template <class T>
void add_tile(const DyadicRows<T>& rows, const T* in, T* out, int64_t position) {
  const int64_t n = rows.tiling.at(position);
  if (n > 0) add_level(rows, in, out, {n, position, n, 1});
}

template <class T>
void add_blocks(const DyadicRows<T>& rows, const T* in, T* out, int64_t end) {
  const Tiles<T> tiles{
      in, out, rows.filter, rows.count, rows.channels, rows.length, 4 * rows.tiling.largest(), {}, rows.transposed};
  const dim3 grid(blocks_for(end, base), static_cast<unsigned>(std::min(rows.count, most_rows_of_grid)));
  launch(blocks_kernel<T>, rows.device, grid, base, 0, tiles, end);
}

template void prepare_dyadic(Device, DyadicTiling, int64_t, const float*, const float*, float*);
template void prepare_dyadic(Device, DyadicTiling, int64_t, const double*, const double*, double*);
template void add_tiles(const DyadicRows<float>&, const float*, float*, int64_t);
template void add_tiles(const DyadicRows<double>&, const double*, double*, int64_t);
template void add_tile(const DyadicRows<float>&, const float*, float*, int64_t);
template void add_tile(const DyadicRows<double>&, const double*, double*, int64_t);
template void add_blocks(const DyadicRows<float>&, const float*, float*, int64_t);
template void add_blocks(const DyadicRows<double>&, const double*, double*, int64_t);

}  // namespace mahia::cuda
