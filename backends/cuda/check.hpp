// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "core/error.hpp"

namespace mahia::cuda {

// Throws DeviceError with CUDA's own text unless the call succeeded; `what` names the call.
inline void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) [[likely]]
    return;
  fail<DeviceError>(what, ": CUDA error ", static_cast<int64_t>(status), ", ", cudaGetErrorString(status));
}

}  // namespace mahia::cuda
