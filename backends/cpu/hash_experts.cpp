// SPDX-License-Identifier: Apache-2.0
#include "ops/hash_experts.hpp"

#include "backends/common/hash_experts.hpp"
#include "core/parallel.hpp"

namespace mahia::cpu {
namespace {

constexpr int64_t tile = 256;  // ids for one task

void hash_experts(ConstView ids, ConstView key, int64_t num_experts, View experts) {
  const auto secret = static_cast<uint64_t>(*key.data<int64_t>());
  const int64_t k = experts.size(1), *id = ids.data<int64_t>();
  int64_t* chosen = experts.data<int64_t>();
  parallel_rows(ids.numel(), tile, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) choose_by_hash(secret, id[i], num_experts, k, chosen + i * k);
  });
}

const Registered registered_hash_experts(DeviceType::cpu, kernels::hash_experts, hash_experts);

}  // namespace
}  // namespace mahia::cpu
