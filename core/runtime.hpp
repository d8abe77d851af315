// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "device.hpp"

namespace mahia {

// Bytes and counts of one device's caching allocator since the process began.
struct MemoryStats {
  int64_t allocated = 0;           // handed out now
  int64_t peak = 0;                // largest `allocated` so far
  int64_t reserved = 0;            // held from the system, handed out or cached
  int64_t system_allocations = 0;  // requests that went to the system
};

// What a backend offers besides kernels: memory, copies, waiting. One instance per device type.
class DeviceRuntime {
 public:
  virtual ~DeviceRuntime() = default;
  virtual int device_count() const = 0;
  // Uninitialised memory, 64-byte aligned at least; throws OutOfMemoryError.
  virtual void* allocate(Device device, size_t bytes) = 0;
  virtual void deallocate(Device device, void* data, size_t bytes) noexcept = 0;
  // Memory for the duration of one kernel, 256-byte aligned, given back in reverse order by the same thread.
  virtual void* allocate_scratch(Device device, size_t bytes) = 0;
  virtual void deallocate_scratch(Device device, void* data, size_t bytes) noexcept = 0;
  // Contiguous bytes between this device type and the host or itself.
  virtual void copy(void* dst, Device dst_device, const void* src, Device src_device, size_t bytes) = 0;
  virtual void synchronize(Device device) = 0;
  virtual MemoryStats memory_stats(Device device) const = 0;
  // Gives cached memory back to the system.
  virtual void empty_cache(Device device) = 0;
};

// Called once by each backend while the library loads.
void register_runtime(DeviceType type, DeviceRuntime* runtime);
// Throws DeviceError when this build or machine has no such device.
DeviceRuntime& runtime(DeviceType type);
bool has_runtime(DeviceType type);

int device_count(DeviceType type = DeviceType::cuda);
void synchronize(Device device);
MemoryStats memory_stats(Device device = cpu_device);
void empty_cache(Device device = cpu_device);

}  // namespace mahia
