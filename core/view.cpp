// SPDX-License-Identifier: Apache-2.0
#include "core/view.hpp"

#include <limits>

namespace mahia {

void describe(std::string& out, const ConstView& view) {
  if (!view.defined()) {
    out += "undefined";
    return;
  }
  describe(out, view.dtype());
  out += ' ';
  describe(out, view.shape());
  out += ' ';
  describe(out, view.device());
}

bool fits_int32(const ConstView& view) {
  int64_t last = 0;
  for (int i = 0; i < view.rank(); ++i) {
    if (view.shape()[i] == 0) return true;
    last += (view.shape()[i] - 1) * view.strides()[i];
  }
  return last <= std::numeric_limits<int32_t>::max() && view.numel() <= std::numeric_limits<int32_t>::max();
}

}  // namespace mahia
