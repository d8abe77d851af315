// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"

namespace mahia {

// k different experts for each id by a fixed hash (Roller et al. 2021): the words of Philox with the key, blocks
// numbered by the id, each modulo E, in order and without those that came before. ids i64 (N), key i64 (1) -> i64 (N,
// k). The same numbers on every device. Throws DTypeError, ShapeError, ValueError for k outside [1, E].
Tensor hash_experts(const Tensor& ids, const Tensor& key, int64_t k, int64_t num_experts);

namespace kernels {
inline constinit Kernel<void(ConstView ids, ConstView key, int64_t num_experts, View experts)> hash_experts{
    "hash_experts"};
}  // namespace kernels

}  // namespace mahia
