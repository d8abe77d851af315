// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "core/dtype.hpp"

namespace mahia::cpu {

// A matrix with any strides, in elements; without data it stands for zeros.
template <class T>
struct Matrix {
  T* data = nullptr;
  int64_t row_stride = 0, column_stride = 0;

  T* at(int64_t row, int64_t column) const { return data + row * row_stride + column * column_stride; }
  Matrix from(int64_t row, int64_t column) const {
    return data == nullptr ? *this : Matrix{at(row, column), row_stride, column_stride};
  }
  Matrix transposed() const { return {data, column_stride, row_stride}; }
};

// c (m, n) = start + a (m, k) b (k, n). `start` may be c itself, which then grows. One of c's strides is 1.
template <class X>
struct Product {
  int64_t m, n, k;
  Matrix<const X> a, b, start;
  Matrix<X> c;
};

// Several products at once; X is double, float or bfloat16. An element of c is the sum, in order, of chains of 256
// fused multiply-adds along k, in f32 or wider. Its bits depend on its row of a, its column of b and `start` alone: not
// on m, n, strides, the other products, the number of threads or the width of vectors.
// 158 to 183 GFLOP/s in f32 and 80 in f64 on two cores of an EPYC 7003, whatever is transposed, for 512^3 to
// 2048^3 and for layers of 256 to 512 features. It is our own because the bits of a row from oneDNN 2.6 depend on m,
// and oneDNN reaches 34 to 91 GFLOP/s a core on panels of 64 to 512 rows, least where a is transposed.
template <class X>
void gemm(std::span<const Product<X>> products);

}  // namespace mahia::cpu
