// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"

namespace mahia {

// Indices are i64 or i32 and must lie in [0, size); anything else throws IndexError naming the position, the value and
// the range. Gradients are summed by the owner of each row in the order of the positions: the same bits for any thread
// count.

// y[..., :] = weight[ids[...], :]; ids of any shape, weight (V, D) -> (ids..., D).
Tensor embedding(const Tensor& ids, const Tensor& weight);
// y with x's shape but index.size along `axis`: rows index[i] of that axis. index (n).
Tensor index_select(const Tensor& x, int64_t axis, const Tensor& index);
// x with source's slices added at rows index[i] of `axis`; source has x's shape but n along `axis`.
Tensor index_add(const Tensor& x, int64_t axis, const Tensor& index, const Tensor& source);
// y[i][j] = x[index[i][j]][j] for axis 0, and so on, as torch.gather: index has y's shape, at most x's off `axis`.
Tensor gather(const Tensor& x, int64_t axis, const Tensor& index);
// (ids..., num_classes) i64 with a single 1 per row.
Tensor one_hot(const Tensor& ids, int64_t num_classes);
// How often each value occurs in ids: i64 (max(minlength, largest id + 1)).
Tensor bincount(const Tensor& ids, int64_t minlength = 0);

namespace kernels {
// x (outer, n, inner), index (k) -> y (outer, k, inner); all contiguous, any dtype of x.
inline constinit Kernel<void(ConstView x, ConstView index, View y)> index_select{"index_select"};
// y (outer, n, inner) += source (outer, k, inner) at index (k); sums in f32 or wider.
inline constinit Kernel<void(ConstView index, ConstView source, View y)> index_add{"index_add"};
// x (outer, n, inner), index and y (outer, k, inner).
inline constinit Kernel<void(ConstView x, ConstView index, View y)> gather{"gather"};
// Writes all of dx; sums in f32 or wider.
inline constinit Kernel<void(ConstView index, ConstView dy, View dx)> gather_grad{"gather_grad"};
// ids and counts contiguous; counts i64 (n).
inline constinit Kernel<void(ConstView ids, View counts)> bincount{"bincount"};
// Throws IndexError unless all of index lies in [0, size).
inline constinit Kernel<void(ConstView index, const char* op, int64_t size)> check_index{"check_index"};
}  // namespace kernels

}  // namespace mahia
