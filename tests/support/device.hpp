// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/test/unit_test.hpp>

#include "core/tensor.hpp"
#include "ops/matmul.hpp"

namespace mahia::tests {

// The device that `mahia-tests -- --device cuda` asks for; the CPU otherwise.
Device tested_device();
bool tests_cuda();
// For sanitizers, under which the specifications' large cases take too long: `--most-elements N` leaves out cases with
// more elements in an operand. `--batch-invariant` does all products by own kernels, whose every access they see.
int64_t most_elements();
bool wants_batch_invariance();
// For cases that need it: *boost::unit_test::precondition(NeedsCuda()).
struct NeedsCuda {
  boost::test_tools::assertion_result operator()(boost::unit_test::test_unit_id) const { return tests_cuda(); }
};
// Products keep a row's bits in any batch while this lives.
struct BatchInvariant {
  BatchInvariant() { use_batch_invariant(true); }
  ~BatchInvariant() { use_batch_invariant(false); }
};
// x on that device: the same values behind the same strides.
Tensor on_tested_device(const Tensor& x);

}  // namespace mahia::tests
