// SPDX-License-Identifier: Apache-2.0
#include "core/runtime.hpp"

#include <array>

namespace mahia {
namespace {

constinit std::array<DeviceRuntime*, device_type_count> runtimes{};

}  // namespace

void register_runtime(DeviceType type, DeviceRuntime* runtime) { runtimes[static_cast<size_t>(type)] = runtime; }

bool has_runtime(DeviceType type) { return runtimes[static_cast<size_t>(type)] != nullptr; }

DeviceRuntime& runtime(DeviceType type) {
  check<DeviceError>(has_runtime(type), type, ": this build of mahia has no ", type, " backend");
  return *runtimes[static_cast<size_t>(type)];
}

int device_count(DeviceType type) { return has_runtime(type) ? runtime(type).device_count() : 0; }
void synchronize(Device device) { runtime(device.type).synchronize(device); }
MemoryStats memory_stats(Device device) { return runtime(device.type).memory_stats(device); }
void empty_cache(Device device) { runtime(device.type).empty_cache(device); }

}  // namespace mahia
