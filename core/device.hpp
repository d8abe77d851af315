// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "error.hpp"

namespace mahia {

enum class DeviceType : uint8_t { cpu, cuda };
inline constexpr int device_type_count = 2;

// A place where tensors live and kernels run: `cpu:0`, `cuda:1`.
struct Device {
  DeviceType type = DeviceType::cpu;
  int16_t index = 0;
  friend bool operator==(const Device&, const Device&) = default;
};

inline constexpr Device cpu_device{};

const char* name_of(DeviceType type);
Device parse_device(std::string_view text);  // "cpu", "cuda", "cuda:1"; throws ValueError for anything else
inline void describe(std::string& out, DeviceType type) { describe(out, name_of(type)); }
void describe(std::string& out, Device device);

}  // namespace mahia
