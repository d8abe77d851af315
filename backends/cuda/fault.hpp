// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/device.hpp"

namespace mahia::cuda {

// What went wrong with the data first, written by the kernel that saw it and read by the host at its next wait.
enum class FaultCode : int { none, index, offsets, expert, target, rows, nonfinite };

struct Fault {
  FaultCode code = FaultCode::none;
  int site = 0;                                  // of fault_site()
  long long position = 0, value = 0, limit = 0;  // value at position was not below limit; of a nonfinite one the bits
};

// The device's fault word, in device memory. Kernels that change a model's state do nothing once it is set.
Fault* fault_of(Device device);
// A number for the text `op`, for kernels; the text must live for ever.
int fault_site(const char* op);

}  // namespace mahia::cuda
