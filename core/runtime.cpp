// SPDX-License-Identifier: Apache-2.0
#include "core/runtime.hpp"

#include <array>

namespace mahia {
namespace {

constinit std::array<DeviceRuntime*, device_type_count> runtimes{};

}  // namespace

void* DeviceRuntime::allocate_pinned(Device, size_t) { return nullptr; }
void DeviceRuntime::release_pinned(Device, void*) noexcept {}
void DeviceRuntime::copy_pinned(void* dst, Device device, const void* src, size_t bytes) {
  copy(dst, device, src, cpu_device, bytes);
}
bool DeviceRuntime::can_record(Device) const { return false; }
int DeviceRuntime::new_pool(Device device) { fail<CaptureError>(device, ": has no graphs to capture a step in"); }
void DeviceRuntime::use_pool(Device, int) {}
void DeviceRuntime::release_pool(Device, int) noexcept {}
std::unique_ptr<RecordedGraph> DeviceRuntime::record(Device device, const std::function<void()>&) {
  fail<CaptureError>(device, ": has no graphs to capture a step in");
}

void register_runtime(DeviceType type, DeviceRuntime* runtime) { runtimes[static_cast<size_t>(type)] = runtime; }

bool has_runtime(DeviceType type) { return runtimes[static_cast<size_t>(type)] != nullptr; }

DeviceRuntime& runtime(DeviceType type) {
  check<DeviceError>(has_runtime(type), type, ": this build of mahia has no ", type, " backend");
  return *runtimes[static_cast<size_t>(type)];
}

int device_count(DeviceType type) { return has_runtime(type) ? runtime(type).device_count() : 0; }
void synchronize(Device device) { runtime(device.type).synchronize(device); }
MemoryStats memory_stats(Device device) { return runtime(device.type).memory_stats(device); }
void set_memory_limit(Device device, size_t bytes) { runtime(device.type).set_memory_limit(device, bytes); }
void reset_peak_memory_stats(Device device) { runtime(device.type).reset_peak_memory_stats(device); }
void empty_cache(Device device) { runtime(device.type).empty_cache(device); }

}  // namespace mahia
