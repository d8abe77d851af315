// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/radix_sort.hpp"

#include <cub/device/device_radix_sort.cuh>

#include "backends/cuda/check.hpp"
#include "backends/cuda/runtime.hpp"
#include "core/scratch.hpp"

namespace mahia::cuda {

void radix_sort(Device device, const KeysAndValues& from, const KeysAndValues& to, unsigned count, int begin_bit,
                int end_bit) {
  const auto run = [&](void* memory, size_t& bytes) {
    check_cuda(cub::DeviceRadixSort::SortPairs(memory, bytes, from.keys, to.keys, from.values, to.values, count,
                                               begin_bit, end_bit, stream_of(device)),
               "cub::DeviceRadixSort::SortPairs");
  };
  size_t bytes = 0;  // without memory, CUB only says how much it wants
  run(nullptr, bytes);
  const Scratch memory(device, bytes);
  run(memory.data<void>(), bytes);
}

}  // namespace mahia::cuda
