// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/tensor.hpp"

namespace mahia::tests {

// The device that `mahia-tests -- --device cuda` asks for; the CPU otherwise.
Device tested_device();
bool tests_cuda();
// x on that device: the same values behind the same strides.
Tensor on_tested_device(const Tensor& x);

}  // namespace mahia::tests
