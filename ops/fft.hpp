// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"
#include "signal.hpp"

namespace mahia {

// Discrete Fourier transforms of real signals along the last axis, any length, PyTorch's norm="backward". A complex
// number is a pair (real, imaginary) along an extra last axis, as in torch.view_as_real. Computed in f32 or wider.

// X[k] = sum_t x[t] exp(-2 pi i k t / n) for k = 0 ... n/2: x (..., T) -> (..., n/2 + 1, 2). x is cut or filled with
// zeros to n, which is T by default. Throws DTypeError; ShapeError when x has no axis; ValueError for n < 1.
Tensor rfft(const Tensor& x, int64_t n = -1);

// The inverse: x (..., M, 2) -> (..., n), n = 2 (M - 1) by default; frequencies are cut or filled with zeros to
// n/2 + 1. The imaginary parts of frequency 0 and, for even n, n/2 do not count. Throws as rfft, and ShapeError when
// the last axis is not 2.
Tensor irfft(const Tensor& x, int64_t n = -1);

// What the frequencies of a real transform of length n are multiplied with: the edges 0 and n/2 (n even), which stand
// for themselves, and the others, which also stand for their mirror images.
struct FftWeights {
  double edge = 1, inner = 1;
};

namespace kernels {
// A real transform is half a complex one.
inline Cost cost_of_real_fft(const ConstView& x, const View& y, const int64_t& n, const FftWeights&) {
  return {bytes_of({&x, &y}), fft_flops(x.size(0), n) / 2};
}
// Each other's transpose for the same n and weights w; x and y contiguous; what n leaves over of y becomes zero.
// x (rows, T) -> y (rows, M, 2): y[k] = w[k] sum_t x[t] exp(-2 pi i k t / n).
inline constinit Kernel<void(ConstView x, View y, int64_t n, FftWeights)> rfft{"rfft", cost_of_real_fft};
// x (rows, M, 2) -> y (rows, T): y[t] = Re sum_k w[k] x[k] exp(2 pi i k t / n), k = 0 ... n/2.
inline constinit Kernel<void(ConstView x, View y, int64_t n, FftWeights)> irfft{"irfft", cost_of_real_fft};
}  // namespace kernels

}  // namespace mahia
