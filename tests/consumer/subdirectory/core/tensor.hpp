// SPDX-License-Identifier: Apache-2.0
#pragma once

// A header of the consumer's own, named like one of mahia's: neither may hide the other.
namespace consumer {
struct Tensor {
  int dims = 3;
};
}  // namespace consumer
