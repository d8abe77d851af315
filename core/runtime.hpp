// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "device.hpp"

namespace mahia {

// Bytes and counts of one device's caching allocator since the process began.
struct MemoryStats {
  int64_t allocated = 0;           // handed out now
  int64_t peak = 0;                // largest `allocated` so far
  int64_t reserved = 0;            // held from the system, handed out or cached
  int64_t system_allocations = 0;  // requests that went to the system
};

// Work of a device that was recorded once.
class RecordedGraph {
 public:
  virtual ~RecordedGraph() = default;
  // `step_offset`: how many random steps have passed since it was recorded.
  virtual void replay(uint64_t step_offset) = 0;
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
  // Contiguous bytes between this device type and the host or itself. Returns when the host's bytes have been read or
  // written.
  virtual void copy(void* dst, Device dst_device, const void* src, Device src_device, size_t bytes) = 0;
  // Host memory that the device reads by itself; null on a device that is the host. copy_pinned() returns at once: the
  // bytes must stay as they are until the host has waited for the device.
  virtual void* allocate_pinned(Device device, size_t bytes);
  virtual void release_pinned(Device device, void* data) noexcept;
  virtual void copy_pinned(void* dst, Device device, const void* src, size_t bytes);
  // Waits until all work is done. Throws what a kernel found wrong with its data since the last wait.
  virtual void synchronize(Device device) = 0;
  // How much temporary memory suits an op that works through its operands piece by piece.
  virtual size_t piece_bytes(Device device) const = 0;
  virtual MemoryStats memory_stats(Device device) const = 0;
  virtual void reset_peak_memory_stats(Device device) = 0;  // peak = allocated
  // Gives cached memory back to the system.
  virtual void empty_cache(Device device) = 0;
  // At most this many bytes from the system; 0: no limit. A request beyond throws OutOfMemoryError.
  virtual void set_memory_limit(Device device, size_t bytes) = 0;

  // For StepGraph. A pool is memory that a graph keeps to itself: the calling thread's requests come from it between
  // use_pool(pool) and use_pool(0). record() runs `work` without doing it. They throw CaptureError on a device without
  // graphs.
  virtual bool can_record(Device device) const;
  virtual int new_pool(Device device);
  virtual void use_pool(Device device, int pool);
  virtual void release_pool(Device device, int pool) noexcept;
  virtual std::unique_ptr<RecordedGraph> record(Device device, const std::function<void()>& work);
};

// Called once by each backend while the library loads.
void register_runtime(DeviceType type, DeviceRuntime* runtime);
// Throws DeviceError when this build or machine has no such device.
DeviceRuntime& runtime(DeviceType type);
bool has_runtime(DeviceType type);

int device_count(DeviceType type = DeviceType::cuda);
void synchronize(Device device);
MemoryStats memory_stats(Device device = cpu_device);
void reset_peak_memory_stats(Device device = cpu_device);
void empty_cache(Device device = cpu_device);
void set_memory_limit(Device device, size_t bytes);

}  // namespace mahia
