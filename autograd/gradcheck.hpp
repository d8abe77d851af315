// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "../core/tensor.hpp"

namespace mahia {

struct GradcheckOptions {
  double eps = 1e-6;   // step of the central difference
  double atol = 1e-5;  // |analytic - numeric| <= atol + rtol |numeric|
  double rtol = 1e-3;
};

// Compares the gradients of fn with central differences of a random weighting of its floating outputs. Inputs that
// require a gradient must be f64. Throws ValueError naming input, element, both values. fn must be a pure function.
void gradcheck(const std::function<Tensors(const Tensors&)>& fn, const Tensors& inputs,
               const GradcheckOptions& options = {});
void gradcheck(const std::function<Tensor(const Tensors&)>& fn, const Tensors& inputs,
               const GradcheckOptions& options = {});

}  // namespace mahia
