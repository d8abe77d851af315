// SPDX-License-Identifier: Apache-2.0
#include "ops/hash_experts.hpp"

#include "core/factory.hpp"
#include "ops/shape.hpp"

namespace mahia {

Tensor hash_experts(const Tensor& ids, const Tensor& key, int64_t k, int64_t num_experts) {
  check<DTypeError>(ids.dtype() == DType::i64 && key.dtype() == DType::i64,
                    "hash_experts: needs i64 ids and an i64 key: ids ", ids, ", key ", key);
  check<ShapeError>(ids.rank() == 1 && key.shape() == Shape{1}, "hash_experts: needs ids (N) and a key (1): ids ", ids,
                    ", key ", key);
  check<ValueError>(k >= 1 && k <= num_experts, "hash_experts: k is ", k, ", must be in [1, ", num_experts, "]");
  const Tensor experts = empty({ids.size(0), k}, DType::i64, ids.device());
  if (experts.numel() > 0) kernels::hash_experts(contiguous(ids), contiguous(key), num_experts, experts.output_view());
  return experts;
}

}  // namespace mahia
