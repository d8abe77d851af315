// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>

#include "backends/cuda/check.hpp"
#include "core/view.hpp"

namespace mahia::cuda {

// Whether a map of this view can be made: other axes' steps are positive multiples of 16 bytes.
inline bool has_tensor_map(const ConstView& v, int unit_axis) {
  if (v.numel() == 0 || v.stride(unit_axis) != 1 || reinterpret_cast<uintptr_t>(v.raw()) % 16 != 0) return false;
  for (int axis = 0; axis < v.rank(); ++axis) {
    if (axis != unit_axis && (v.stride(axis) <= 0 || v.stride(axis) % 8 != 0)) return false;
  }
  return true;
}

inline decltype(&cuTensorMapEncodeTiled) tensor_map_encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  check_cuda(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
             "cudaGetDriverEntryPointByVersion");
  check<DeviceError>(found == cudaDriverEntryPointSuccess, "the driver has no cuTensorMapEncodeTiled");
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
}

// How the copy unit sees a bf16 view of two axes or of three, the first being the outermost: boxes of 64 numbers along
// the unit axis by 64 of the other, to be laid out with the 128-byte swizzle.
inline CUtensorMap tensor_map(const ConstView& v, int unit_axis) {
  static const auto encode = tensor_map_encoder();
  const int other = 2 * v.rank() - 3 - unit_axis;  // of the last two
  const bool many = v.rank() == 3;
  const auto bytes = [&](int axis) { return static_cast<cuuint64_t>(v.stride(axis)) * sizeof(bfloat16); };
  const cuuint64_t sizes[3] = {static_cast<cuuint64_t>(v.size(unit_axis)), static_cast<cuuint64_t>(v.size(other)),
                               many ? static_cast<cuuint64_t>(v.size(0)) : 1};
  const cuuint64_t steps[2] = {bytes(other), bytes(many ? 0 : other)};
  const cuuint32_t box[3] = {64, 64, 1}, every[3] = {1, 1, 1};
  CUtensorMap map;
  const CUresult status = encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<void*>(v.raw()), sizes, steps,
                                 box, every, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  check<DeviceError>(status == CUDA_SUCCESS, "cuTensorMapEncodeTiled: CUDA driver error ", static_cast<int64_t>(status),
                     " for ", v);
  return map;
}

}  // namespace mahia::cuda
