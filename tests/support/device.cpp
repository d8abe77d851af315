// SPDX-License-Identifier: Apache-2.0
#include "tests/support/device.hpp"

#include <boost/test/unit_test.hpp>
#include <string_view>

#include "core/copy.hpp"

namespace mahia::tests {

Device tested_device() {
  static const Device device = [] {
    const auto& suite = boost::unit_test::framework::master_test_suite();
    for (int i = 1; i + 1 < suite.argc; ++i) {
      if (std::string_view(suite.argv[i]) == "--device") return parse_device(suite.argv[i + 1]);
    }
    return cpu_device;
  }();
  return device;
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
