// SPDX-License-Identifier: Apache-2.0
#include "backends/cpu/allocator.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

namespace mahia::cpu {
namespace {

constexpr size_t huge_page = size_t{2} << 20;
constexpr size_t alignment = 64;
constexpr size_t linear_limit = 1024;
constexpr size_t linear_classes = linear_limit / alignment;
constexpr size_t scratch_alignment = 256;
constexpr size_t first_chunk = size_t{1} << 20;

size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

size_t CachingAllocator::class_of(size_t bytes) {
  if (bytes <= linear_limit) return (std::max<size_t>(bytes, 1) + alignment - 1) / alignment - 1;
  const auto octave = static_cast<size_t>(std::bit_width(bytes - 1));  // bytes in (2^(octave-1), 2^octave]
  const size_t step = size_t{1} << (octave - 4);
  const size_t part = (bytes - (size_t{1} << (octave - 1)) + step - 1) / step;  // 1..8
  return linear_classes + (octave - 11) * 8 + part - 1;
}

size_t CachingAllocator::bytes_of(size_t size_class) {
  if (size_class < linear_classes) return (size_class + 1) * alignment;
  const size_t octave = (size_class - linear_classes) / 8 + 11, part = (size_class - linear_classes) % 8 + 1;
  return (size_t{1} << (octave - 1)) + part * (size_t{1} << (octave - 4));
}

void* CachingAllocator::from_system(size_t bytes) {
  if (limit_ > 0 && static_cast<size_t>(stats_.reserved) + bytes > limit_) return nullptr;
  void* data = std::aligned_alloc(bytes >= huge_page ? huge_page : alignment,
                                  round_up(bytes, bytes >= huge_page ? huge_page : alignment));
  if (data == nullptr) return nullptr;
  // Page faults cost more than the arithmetic on long rows; large pages make them rare. A refusal changes only speed.
  if (bytes >= huge_page) madvise(data, round_up(bytes, huge_page), MADV_HUGEPAGE);
  ++stats_.system_allocations;
  stats_.reserved += static_cast<int64_t>(bytes);
  return data;
}

void* CachingAllocator::allocate(size_t bytes) {
  check<OutOfMemoryError>(bytes < size_t{1} << 46, "cpu: out of memory: wanted ", bytes, " bytes");
  const size_t size_class = class_of(bytes), rounded = bytes_of(size_class);
  const std::scoped_lock lock(mutex_);
  void* data = nullptr;
  if (!free_[size_class].empty()) {
    data = free_[size_class].back();
    free_[size_class].pop_back();
  } else {
    data = from_system(rounded);
    check<OutOfMemoryError>(data != nullptr, "cpu: out of memory: wanted ", bytes, " bytes, in use ", stats_.allocated,
                            ", reserved ", stats_.reserved);
  }
  stats_.allocated += static_cast<int64_t>(rounded);
  stats_.peak = std::max(stats_.peak, stats_.allocated);
  return data;
}

void CachingAllocator::deallocate(void* data, size_t bytes) noexcept {
  const size_t size_class = class_of(bytes);
  const std::scoped_lock lock(mutex_);
  free_[size_class].push_back(data);
  stats_.allocated -= static_cast<int64_t>(bytes_of(size_class));
}

MemoryStats CachingAllocator::stats() const {
  const std::scoped_lock lock(mutex_);
  return stats_;
}

void CachingAllocator::reset_peak() {
  const std::scoped_lock lock(mutex_);
  stats_.peak = stats_.allocated;
}

void CachingAllocator::empty_cache() {
  const std::scoped_lock lock(mutex_);
  for (size_t c = 0; c < class_count; ++c) {
    for (void* data : free_[c]) {
      std::free(data);
      stats_.reserved -= static_cast<int64_t>(bytes_of(c));
    }
    free_[c].clear();
  }
}

void CachingAllocator::set_limit(size_t bytes) {
  const std::scoped_lock lock(mutex_);
  limit_ = bytes;
}

ScratchArena::~ScratchArena() {
  for (const Chunk& chunk : chunks_) std::free(chunk.data);
}

void* ScratchArena::allocate(size_t bytes) {
  bytes = round_up(std::max<size_t>(bytes, 1), scratch_alignment);
  while (current_ < chunks_.size() && chunks_[current_].bytes - chunks_[current_].used < bytes) {
    // An empty chunk that is too small is replaced; a used one is kept and the next is tried.
    if (chunks_[current_].used == 0) {
      std::free(chunks_[current_].data);
      chunks_.erase(chunks_.begin() + static_cast<std::ptrdiff_t>(current_));
    } else {
      ++current_;
    }
  }
  if (current_ == chunks_.size()) {
    const size_t size = std::max(std::bit_ceil(bytes), first_chunk);
    auto* data = static_cast<std::byte*>(std::aligned_alloc(scratch_alignment, size));
    check<OutOfMemoryError>(data != nullptr, "cpu: out of memory: wanted ", size, " bytes of scratch");
    chunks_.push_back({data, size, 0});
  }
  Chunk& chunk = chunks_[current_];
  void* data = chunk.data + chunk.used;
  chunk.used += bytes;
  return data;
}

void ScratchArena::deallocate(void* data, size_t bytes) noexcept {
  bytes = round_up(std::max<size_t>(bytes, 1), scratch_alignment);
  while (current_ > 0 && chunks_[current_].used == 0) --current_;
  Chunk& chunk = chunks_[current_];
  chunk.used -= bytes;
  if (chunk.data + chunk.used != data) std::abort();  // a Scratch that outlived its scope: our own mistake
  while (current_ > 0 && chunks_[current_].used == 0) --current_;
}

}  // namespace mahia::cpu
