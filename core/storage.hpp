// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "device.hpp"

namespace mahia {

// The bytes behind tensors, shared by all views of them. `version` grows with every change of the values.
class Storage {
 public:
  Storage(Device device, size_t bytes);  // uninitialised
  // Memory owned by somebody else; `release` runs when the last view is gone.
  Storage(Device device, void* data, size_t bytes, std::function<void()> release);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  uint64_t version() const { return version_; }
  void bump_version() { ++version_; }

 private:
  // Scalars and tiny tensors live inside the object. A wider alignment would keep it from the allocator's fast path.
  static constexpr size_t small = 64;
  alignas(16) std::byte inline_[small];
  void* data_;
  size_t bytes_;
  uint64_t version_ = 0;
  Device device_;
  std::function<void()> release_;
};

}  // namespace mahia
