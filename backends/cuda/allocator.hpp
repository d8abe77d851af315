// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>

#include "core/runtime.hpp"

namespace mahia::cuda {

inline constexpr int max_devices = 16;

// Device memory out of segments from cudaMalloc, split and joined again, best fit. All work of a device runs on one
// stream, so memory given back may be handed out at once: whoever writes it next runs after whoever read it last.
//
// A pool is a set of segments of its own: what a captured graph used stays with that graph until the pool is released.
class CachingAllocator {
 public:
  // Without the cache (MAHIA_CUDA_CACHE=0) each request is a cudaMalloc of its size, so that compute-sanitizer sees
  // accesses beyond its end. With MAHIA_CUDA_GUARD=1 each has 512 bytes of a pattern before and after it, which are
  // looked at when it is given back.
  explicit CachingAllocator(Device device);
  // 512-byte aligned. Throws OutOfMemoryError with wanted, free, reserved and the largest free block.
  void* allocate(size_t bytes);
  void deallocate(void* data) noexcept;
  bool is_caching() const { return caching_; }
  MemoryStats stats() const;
  void reset_peak();
  // How many blocks had a guard overwritten.
  int64_t overwritten_guards() const { return overwritten_; }
  // Gives segments without a block in use back to CUDA, after waiting for the device.
  void empty_cache();
  // While a step is recorded nothing may wait, so nothing is given back: too little memory is an error at once.
  void set_recording(bool recording) { recording_ = recording; }
  // At most this much from cudaMalloc; 0: no limit.
  void set_limit(size_t bytes);

  // The calling thread's requests are served from this pool from now on; 0 is the common one.
  void use_pool(int pool);
  int new_pool();
  // Its memory, free now or later, goes to the common pool.
  void release_pool(int pool) noexcept;

 private:
  struct Block {
    char* data;
    size_t size;
    int pool;
    bool small;  // of a small segment
    bool free = true;
    Block* before = nullptr;  // neighbours in the segment
    Block* after = nullptr;
  };
  struct BySize {
    bool operator()(const Block* a, const Block* b) const {
      return a->size != b->size ? a->size < b->size : a->data < b->data;
    }
  };
  struct FreeBlocks {
    std::set<Block*, BySize> small, large;
    std::set<Block*, BySize>& of(const Block* block) { return block->small ? small : large; }
  };

  Block* find_free(size_t size, bool small);
  Block* new_segment(size_t size, size_t bytes, bool small);
  void* from_system(size_t bytes);
  void split(Block* block, size_t size);
  Block* join(Block* block, Block* next);
  void release_segments();
  void write_guards(char* data, size_t size) const;
  bool guards_hold(const char* data, size_t size) const;
  [[noreturn]] void throw_out_of_memory(size_t wanted) const;

  Device device_;
  bool caching_;
  size_t guard_ = 0;  // bytes before and after each block
  std::atomic<int64_t> overwritten_{0};
  std::atomic<bool> recording_{false};
  mutable std::mutex mutex_;
  int last_pool_ = 0;
  std::map<int, FreeBlocks> free_;                            // by pool
  std::unordered_map<void*, std::unique_ptr<Block>> blocks_;  // all of them, by address
  MemoryStats stats_;
  size_t limit_ = 0;
};

}  // namespace mahia::cuda
