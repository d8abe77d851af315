// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/staging.hpp"

#include <cstring>

#include "backends/cuda/check.hpp"
#include "core/counters.hpp"

namespace mahia::cuda {

void StagingRing::start() {
  check_cuda(cudaMallocHost(reinterpret_cast<void**>(&memory_), slots * slot_bytes), "cudaMallocHost");
  for (cudaEvent_t& event : done_) {
    check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
  }
}

void StagingRing::wait_for(cudaEvent_t event) {
  const cudaError_t status = cudaEventQuery(event);
  if (status == cudaSuccess) return;
  check<DeviceError>(status == cudaErrorNotReady, "cudaEventQuery: ", cudaGetErrorString(status));
  cudaGetLastError();  // "not ready" is no error to be found later
  add_host_wait();
  check_cuda(cudaEventSynchronize(event), "cudaEventSynchronize");
}

void StagingRing::copy(void* dst, const void* src, size_t bytes, cudaStream_t stream) {
  const std::scoped_lock lock(mutex_);
  if (memory_ == nullptr) start();
  const size_t slot = next_++ % slots;
  if (slot % group == 0) wait_for(done_[slot / group]);
  char* const staged = memory_ + slot * slot_bytes;
  std::memcpy(staged, src, bytes);
  check_cuda(cudaMemcpyAsync(dst, staged, bytes, cudaMemcpyHostToDevice, stream), "copy");
  if (slot % group == group - 1) check_cuda(cudaEventRecord(done_[slot / group], stream), "cudaEventRecord");
}

void* PinnedBlocks::allocate(size_t bytes) {
  const std::scoped_lock lock(mutex_);
  std::vector<void*>& free = free_[bytes];
  if (!free.empty()) {
    void* data = free.back();
    free.pop_back();
    return data;
  }
  void* data = nullptr;
  check_cuda(cudaMallocHost(&data, bytes), "cudaMallocHost");
  sizes_[data] = bytes;
  return data;
}

void PinnedBlocks::release(void* data) noexcept {
  const std::scoped_lock lock(mutex_);
  free_[sizes_.at(data)].push_back(data);
}

}  // namespace mahia::cuda
