// SPDX-License-Identifier: Apache-2.0
#include "tests/support/device.hpp"

#include <boost/test/unit_test.hpp>
#include <limits>
#include <string>
#include <string_view>

#include "core/copy.hpp"

namespace mahia::tests {

namespace {

// What follows the word on the command line, or null.
const char* argument(std::string_view word) {
  const auto& suite = boost::unit_test::framework::master_test_suite();
  for (int i = 1; i < suite.argc; ++i) {
    if (suite.argv[i] == word) return i + 1 < suite.argc ? suite.argv[i + 1] : "";
  }
  return nullptr;
}

}  // namespace

Device tested_device() {
  static const Device device = argument("--device") ? parse_device(argument("--device")) : cpu_device;
  return device;
}

int64_t most_elements() {
  static const int64_t most =
      argument("--most-elements") ? std::stoll(argument("--most-elements")) : std::numeric_limits<int64_t>::max();
  return most;
}

bool wants_batch_invariance() {
  static const bool wanted = argument("--batch-invariant") != nullptr;
  return wanted;
}

bool tests_cuda() { return tested_device().type == DeviceType::cuda; }

Tensor on_tested_device(const Tensor& x) {
  if (!x.defined()) return x;
  const auto elements = static_cast<int64_t>(x.storage()->bytes() / size_of(x.dtype()));
  const Tensor whole(x.storage(), {elements}, {1}, 0, x.dtype());
  const Tensor there = copy_to(whole, tested_device(), x.dtype());
  return {there.storage(), x.shape(), x.strides(), x.offset(), x.dtype()};
}

}  // namespace mahia::tests
