// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

#include "core/runtime.hpp"

namespace mahia::cpu {

// A caching allocator: blocks go back to a free list of their size class and are handed out again, so that a training
// step in steady state asks the system for nothing. Classes: multiples of 64 bytes up to 1 KiB, then eight per octave.
class CachingAllocator {
 public:
  void* allocate(size_t bytes);
  void deallocate(void* data, size_t bytes) noexcept;
  MemoryStats stats() const;
  void reset_peak();
  void empty_cache();
  void set_limit(size_t bytes);  // of what is held from the system; 0: none

 private:
  static constexpr size_t class_count = 512;
  static size_t class_of(size_t bytes);
  static size_t bytes_of(size_t size_class);
  void* from_system(size_t bytes);

  mutable std::mutex mutex_;
  std::vector<void*> free_[class_count];
  MemoryStats stats_;
  size_t limit_ = 0;
};

// Memory of one thread for the duration of kernels, last in first out.
class ScratchArena {
 public:
  ~ScratchArena();
  void* allocate(size_t bytes);
  void deallocate(void* data, size_t bytes) noexcept;

 private:
  struct Chunk {
    std::byte* data;
    size_t bytes;
    size_t used;
  };
  std::vector<Chunk> chunks_;
  size_t current_ = 0;
};

}  // namespace mahia::cpu
