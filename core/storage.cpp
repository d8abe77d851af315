// SPDX-License-Identifier: Apache-2.0
#include "core/storage.hpp"

#include "core/runtime.hpp"

namespace mahia {

Storage::Storage(Device device, size_t bytes) : bytes_(bytes), device_(device) {
  const bool fits = device.type == DeviceType::cpu && bytes <= small;
  data_ = fits ? inline_ : runtime(device.type).allocate(device, bytes);
}

Storage::Storage(Device device, void* data, size_t bytes, std::function<void()> release)
    : data_(data), bytes_(bytes), device_(device), release_(std::move(release)) {}

Storage::~Storage() {
  if (release_) {
    release_();
  } else if (data_ != inline_) {
    runtime(device_.type).deallocate(device_, data_, bytes_);
  }
}

}  // namespace mahia
