// SPDX-License-Identifier: Apache-2.0
#include "ops/hash_experts.hpp"

#include "backends/common/hash_experts.hpp"
#include "backends/cuda/launch.cuh"

namespace mahia::cuda {
namespace {

constexpr int threads = 128;

// One thread for an id.
__global__ void __launch_bounds__(threads) choose_experts(const int64_t* ids, const int64_t* key, int64_t n,
                                                          int64_t num_experts, int64_t k, int64_t* experts) {
  const int64_t i = thread_number();
  if (i >= n) return;
  choose_by_hash(static_cast<uint64_t>(*key), ids[i], num_experts, k, experts + i * k);
}

void hash_experts(ConstView ids, ConstView key, int64_t num_experts, View experts) {
  launch(choose_experts, experts.device(), blocks_for(ids.numel(), threads), threads, 0, ids.data<int64_t>(),
         key.data<int64_t>(), ids.numel(), num_experts, experts.size(1), experts.data<int64_t>());
}

const Registered registered_hash_experts(DeviceType::cuda, kernels::hash_experts, hash_experts);

}  // namespace
}  // namespace mahia::cuda
