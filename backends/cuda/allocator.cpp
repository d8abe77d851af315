// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/allocator.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "backends/cuda/check.hpp"
#include "core/counters.hpp"

namespace mahia::cuda {
namespace {

constexpr size_t granule = 512;
constexpr unsigned char guard_byte = 0xA5;
constexpr size_t small_limit = size_t{1} << 20;  // requests up to here share small segments
constexpr size_t small_segment = size_t{2} << 20;
constexpr size_t large_segment = size_t{32} << 20;  // requests up to a quarter of it share large ones

// By device: the pool that the thread's requests are served from.
thread_local std::array<int, max_devices> pools{};

size_t round_up(size_t n, size_t step) { return (n + step - 1) / step * step; }

size_t segment_bytes(size_t size) {
  if (size <= small_limit) return small_segment;
  return size <= large_segment / 4 ? large_segment : round_up(size, small_segment);
}

}  // namespace

CachingAllocator::CachingAllocator(Device device) : device_(device) {
  const char* cache = std::getenv("MAHIA_CUDA_CACHE");
  const char* guard = std::getenv("MAHIA_CUDA_GUARD");
  if (guard != nullptr && guard[0] == '1') guard_ = granule;
  caching_ = guard_ == 0 && (cache == nullptr || cache[0] != '0');
}

void* CachingAllocator::allocate(size_t bytes) {
  const std::scoped_lock lock(mutex_);
  const size_t wanted = std::max<size_t>(bytes, 1) + 2 * guard_;
  const size_t size = caching_ ? round_up(wanted, granule) : wanted;
  const bool small = size <= small_limit;
  Block* block = caching_ ? find_free(size, small) : nullptr;
  if (block == nullptr) block = new_segment(size, caching_ ? segment_bytes(size) : size, small);
  free_[block->pool].of(block).erase(block);
  block->free = false;
  split(block, size);
  stats_.allocated += static_cast<int64_t>(block->size);
  stats_.peak = std::max(stats_.peak, stats_.allocated);
  if (guard_ > 0) write_guards(block->data, size);
  return block->data + guard_;
}

void CachingAllocator::deallocate(void* data) noexcept {
  const std::scoped_lock lock(mutex_);
  Block* block = blocks_.at(static_cast<char*>(data) - guard_).get();
  if (guard_ > 0 && !guards_hold(block->data, block->size)) ++overwritten_;
  stats_.allocated -= static_cast<int64_t>(block->size);
  block->free = true;
  auto& free = free_[block->pool].of(block);
  if (block->after != nullptr && block->after->free) {
    free.erase(block->after);
    block = join(block, block->after);
  }
  if (block->before != nullptr && block->before->free) {
    free.erase(block->before);
    block = join(block->before, block);
  }
  free.insert(block);
  if (caching_) return;
  try {
    release_segments();
  } catch (const Error&) {  // a kernel failed before: the next wait says so
  }
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
  release_segments();
}

void CachingAllocator::set_limit(size_t bytes) {
  const std::scoped_lock lock(mutex_);
  limit_ = bytes;
}

void CachingAllocator::use_pool(int pool) { pools[static_cast<size_t>(device_.index)] = pool; }

int CachingAllocator::new_pool() {
  const std::scoped_lock lock(mutex_);
  return ++last_pool_;
}

void CachingAllocator::release_pool(int pool) noexcept {
  const std::scoped_lock lock(mutex_);
  FreeBlocks &from = free_[pool], &to = free_[0];
  to.small.merge(from.small);
  to.large.merge(from.large);
  free_.erase(pool);
  for (const auto& [data, block] : blocks_) {
    if (block->pool == pool) block->pool = 0;
  }
}

// The smallest free block that fits.
CachingAllocator::Block* CachingAllocator::find_free(size_t size, bool small) {
  const int pool = pools[static_cast<size_t>(device_.index)];
  Block wanted{nullptr, size, pool, small};
  const auto& free = free_[pool].of(&wanted);
  const auto found = free.lower_bound(&wanted);
  return found == free.end() ? nullptr : *found;
}

void* CachingAllocator::from_system(size_t bytes) {
  if (limit_ > 0 && static_cast<size_t>(stats_.reserved) + bytes > limit_) return nullptr;
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // forgotten: the process can go on
    return nullptr;
  }
  check_cuda(status, "cudaMalloc");
  return data;
}

CachingAllocator::Block* CachingAllocator::new_segment(size_t size, size_t bytes, bool small) {
  void* data = from_system(bytes);
  if (data == nullptr && !recording_) {
    release_segments();
    data = from_system(bytes);
  }
  if (data == nullptr) throw_out_of_memory(size);
  ++stats_.system_allocations;
  stats_.reserved += static_cast<int64_t>(bytes);
  const int pool = pools[static_cast<size_t>(device_.index)];
  auto block = std::make_unique<Block>(Block{static_cast<char*>(data), bytes, pool, small});
  Block* result = block.get();
  blocks_[data] = std::move(block);
  free_[pool].of(result).insert(result);
  return result;
}

// Gives what `block` does not need back, unless that is too little to be useful.
void CachingAllocator::split(Block* block, size_t size) {
  const size_t rest = block->size - size;
  if (rest < (block->small ? granule : small_limit)) return;
  auto remaining = std::make_unique<Block>(Block{block->data + size, rest, block->pool, block->small});
  remaining->before = block;
  remaining->after = block->after;
  if (block->after != nullptr) block->after->before = remaining.get();
  block->after = remaining.get();
  block->size = size;
  free_[block->pool].of(block).insert(remaining.get());
  blocks_[remaining->data] = std::move(remaining);
}

CachingAllocator::Block* CachingAllocator::join(Block* block, Block* next) {
  block->size += next->size;
  block->after = next->after;
  if (next->after != nullptr) next->after->before = block;
  blocks_.erase(next->data);
  return block;
}

// Only those of the common pool: a graph reads and writes its pool's memory without asking.
void CachingAllocator::release_segments() {
  check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  if (caching_) add_host_wait();
  for (auto* free : {&free_[0].small, &free_[0].large}) {
    for (auto it = free->begin(); it != free->end();) {
      Block* block = *it;
      if (block->before != nullptr || block->after != nullptr) {
        ++it;
        continue;
      }
      it = free->erase(it);
      check_cuda(cudaFree(block->data), "cudaFree");
      stats_.reserved -= static_cast<int64_t>(block->size);
      blocks_.erase(block->data);
    }
  }
}

void CachingAllocator::write_guards(char* data, size_t size) const {
  check_cuda(cudaMemset(data, guard_byte, guard_), "cudaMemset");
  check_cuda(cudaMemset(data + size - guard_, guard_byte, guard_), "cudaMemset");
  check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

// A failing call counts as held: the device's error comes up at the next wait.
bool CachingAllocator::guards_hold(const char* data, size_t size) const {
  std::array<unsigned char, 2 * granule> guards;
  if (cudaDeviceSynchronize() != cudaSuccess ||
      cudaMemcpy(guards.data(), data, guard_, cudaMemcpyDeviceToHost) != cudaSuccess ||
      cudaMemcpy(guards.data() + guard_, data + size - guard_, guard_, cudaMemcpyDeviceToHost) != cudaSuccess) {
    return true;
  }
  return std::all_of(guards.begin(), guards.end(), [](unsigned char byte) { return byte == guard_byte; });
}

void CachingAllocator::throw_out_of_memory(size_t wanted) const {
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  size_t largest = 0;
  for (const auto& [pool, blocks] : free_) {
    for (const auto* set : {&blocks.small, &blocks.large}) {
      if (!set->empty()) largest = std::max(largest, (*set->rbegin())->size);
    }
  }
  fail<OutOfMemoryError>(device_, ": out of memory: wanted ", wanted, " bytes; free on the device ", free, " of ",
                         total, "; reserved by this process ", stats_.reserved, ", of it in use ", stats_.allocated,
                         "; largest free block ", largest, "; limit ", limit_);
}

}  // namespace mahia::cuda
