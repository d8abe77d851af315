// SPDX-License-Identifier: Apache-2.0
#include "nn/dropout.hpp"

#include "ops/dropout.hpp"

namespace mahia::nn {

Dropout::Dropout(double p) : p_(p) { check<ValueError>(p >= 0 && p <= 1, "Dropout: p is ", p, ", must be in [0, 1]"); }

Tensor Dropout::operator()(const Tensor& x) const {
  return training() && p_ > 0 ? dropout(x, p_, next_random_call(key("dropout"))) : x;
}

std::string Dropout::summary() const { return message("p ", p_); }

}  // namespace mahia::nn
