// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "runtime.hpp"

namespace mahia {

// Uninitialised memory for the duration of one kernel, 256-byte aligned. Scopes nest: last in, first out per thread.
class Scratch {
 public:
  Scratch(Device device, size_t bytes)
      : device_(device), bytes_(bytes), data_(runtime(device.type).allocate_scratch(device, bytes)) {}
  ~Scratch() { runtime(device_.type).deallocate_scratch(device_, data_, bytes_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  template <class T>
  T* data() const {
    return static_cast<T*>(data_);
  }

 private:
  Device device_;
  size_t bytes_;
  void* data_;
};

}  // namespace mahia
