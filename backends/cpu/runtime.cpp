// SPDX-License-Identifier: Apache-2.0
#include "core/runtime.hpp"

#include <cstring>
#include <new>

#include "backends/cpu/allocator.hpp"

namespace mahia::cpu {
namespace {

thread_local ScratchArena scratch;

class CpuRuntime final : public DeviceRuntime {
 public:
  int device_count() const override { return 1; }
  void* allocate(Device, size_t bytes) override { return allocator_.allocate(bytes); }
  void deallocate(Device, void* data, size_t bytes) noexcept override { allocator_.deallocate(data, bytes); }
  void* allocate_scratch(Device, size_t bytes) override { return scratch.allocate(bytes); }
  void deallocate_scratch(Device, void* data, size_t bytes) noexcept override { scratch.deallocate(data, bytes); }
  void copy(void* dst, Device, const void* src, Device, size_t bytes) override {
    if (bytes > 0) std::memcpy(dst, src, bytes);
  }
  void synchronize(Device) override {}
  size_t piece_bytes(Device) const override { return size_t{1} << 20; }  // stays in the cache
  MemoryStats memory_stats(Device) const override { return allocator_.stats(); }
  void reset_peak_memory_stats(Device) override { allocator_.reset_peak(); }
  void empty_cache(Device) override { allocator_.empty_cache(); }
  void set_memory_limit(Device, size_t bytes) override { allocator_.set_limit(bytes); }

 private:
  CachingAllocator allocator_;
};

// Never destroyed: tensors in static storage may outlive every other object.
struct Registration {
  Registration() {
    alignas(CpuRuntime) static std::byte memory[sizeof(CpuRuntime)];
    register_runtime(DeviceType::cpu, ::new (memory) CpuRuntime);
  }
};
const Registration registration;

}  // namespace
}  // namespace mahia::cpu
