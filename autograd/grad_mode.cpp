// SPDX-License-Identifier: Apache-2.0
#include "autograd/grad_mode.hpp"

#include "core/copy.hpp"

namespace mahia {
namespace {

thread_local bool recording = true;
thread_local bool checking = false;

}  // namespace

bool grad_enabled() { return recording; }
GradMode::GradMode(bool enabled) : before_(recording) { recording = enabled; }
GradMode::~GradMode() { recording = before_; }

void copy_into(const Tensor& x, const Tensor& y) {
  check<ValueError>(!grad_enabled(), "copy_into: tensors change only under NoGrad: target ", y);
  overwrite(x, y);
}

bool check_finite_enabled() { return checking; }
CheckFinite::CheckFinite(bool enabled) : before_(checking) { checking = enabled; }
CheckFinite::~CheckFinite() { checking = before_; }

}  // namespace mahia
