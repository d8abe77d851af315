// SPDX-License-Identifier: Apache-2.0
#include "core/device.hpp"

#include <charconv>

namespace mahia {

const char* name_of(DeviceType type) { return type == DeviceType::cpu ? "cpu" : "cuda"; }

void describe(std::string& out, Device device) {
  out += name_of(device.type);
  out += ':';
  out += std::to_string(device.index);
}

Device parse_device(std::string_view text) {
  const size_t colon = text.find(':');
  const std::string_view type = text.substr(0, colon);
  check<ValueError>(type == "cpu" || type == "cuda", "device: unknown `", text, "`; known: cpu, cuda, cuda:N");
  Device device{type == "cpu" ? DeviceType::cpu : DeviceType::cuda, 0};
  if (colon == std::string_view::npos) return device;
  const std::string_view number = text.substr(colon + 1);
  const auto [end, status] = std::from_chars(number.data(), number.data() + number.size(), device.index);
  check<ValueError>(status == std::errc{} && end == number.data() + number.size() && device.index >= 0 &&
                        (device.type == DeviceType::cuda || device.index == 0),
                    "device: bad index in `", text, "`");
  return device;
}

}  // namespace mahia
