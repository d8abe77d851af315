// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

namespace mahia::cuda {

// Pinned host memory through which small blocks travel to a device, so that the host need not wait for the stream.
class StagingRing {
 public:
  static constexpr size_t slot_bytes = size_t{1} << 20;  // the largest block
  // Returns when the bytes have been taken from `src`; waits only for copies that are a lap of the ring old.
  void copy(void* dst, const void* src, size_t bytes, cudaStream_t stream);

 private:
  static constexpr size_t slots = 32, group = 8;  // one event for each group of slots
  void start();
  static void wait_for(cudaEvent_t event);

  std::mutex mutex_;
  char* memory_ = nullptr;
  std::array<cudaEvent_t, slots / group> done_{};
  size_t next_ = 0;
};

// Pinned blocks of the sizes that were asked for, kept for the next request.
class PinnedBlocks {
 public:
  void* allocate(size_t bytes);
  void release(void* data) noexcept;

 private:
  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;
  std::map<void*, size_t> sizes_;
};

}  // namespace mahia::cuda
