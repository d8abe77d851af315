// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "module.hpp"

namespace mahia::nn {

// While training, zeroes each element with probability p and divides the others by 1 - p. The numbers depend on the
// seed, the module's path, the step and the call, never on other layers.
class Dropout : public Module {
 public:
  explicit Dropout(double p = 0.5);
  Tensor operator()(const Tensor& x) const;
  std::string summary() const override;

 private:
  double p_;
};

}  // namespace mahia::nn
