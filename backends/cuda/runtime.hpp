// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "core/runtime.hpp"

namespace mahia::cuda {

// The device's compute stream: all kernels and copies of a device run on it, in the order they were called. Makes the
// device the calling thread's current one.
cudaStream_t stream_of(Device device);
int multiprocessors(Device device);
// What a kernel adds to the step of a RandomCall: 0, or how many steps ago the running graph was recorded.
const uint64_t* step_offset_of(Device device);

}  // namespace mahia::cuda
