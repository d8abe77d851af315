// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/tensor.hpp"

namespace mahia {

// Whether ops of the calling thread record their gradients. On at the start of every thread.
bool grad_enabled();

// Sets the mode for a scope.
class GradMode {
 public:
  explicit GradMode(bool enabled);
  ~GradMode();
  GradMode(const GradMode&) = delete;
  GradMode& operator=(const GradMode&) = delete;

 private:
  bool before_;
};

// Nothing is recorded while one is alive.
class NoGrad : public GradMode {
 public:
  NoGrad() : GradMode(false) {}
};

// Writes x over y in place and moves y's version, so that a backward that saved y's old values throws. Shapes must
// agree; dtype and device may differ. Throws ValueError while gradients are being recorded.
void copy_into(const Tensor& x, const Tensor& y);

// While on (MAHIA_CHECK_NAN=1 or a scope of it), every op's floating output is checked and the first infinite or NaN
// value throws ValueError naming the op, its output and its inputs.
bool check_finite_enabled();
class CheckFinite {
 public:
  explicit CheckFinite(bool enabled = true);
  ~CheckFinite();
  CheckFinite(const CheckFinite&) = delete;
  CheckFinite& operator=(const CheckFinite&) = delete;

 private:
  bool before_;
};

}  // namespace mahia
