// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/device.hpp"

namespace mahia::cuda {

struct KeysAndValues {
  unsigned *keys, *values;
};

// Puts `count` pairs in ascending order of bits [begin_bit, end_bit) of their keys; equal ones stay in order. `from`
// and `to` are in device memory and do not overlap.
void radix_sort(Device device, const KeysAndValues& from, const KeysAndValues& to, unsigned count, int begin_bit,
                int end_bit);

}  // namespace mahia::cuda
