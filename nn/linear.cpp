// SPDX-License-Identifier: Apache-2.0
#include "nn/linear.hpp"

#include "nn/init.hpp"
#include "ops/linear.hpp"

namespace mahia::nn {

Linear::Linear(int64_t in, int64_t out, bool bias) {
  check<ValueError>(in >= 1 && out >= 1, "Linear: in ", in, " and out ", out, " must be at least 1");
  weight_ = parameter("weight", init::fan_in_uniform({out, in}, in, init_call("weight")));
  if (bias) bias_ = parameter("bias", init::fan_in_uniform({out}, in, init_call("bias")));
}

Tensor Linear::operator()(const Tensor& x) const { return linear(x, weight_, bias_); }
Tensor Linear::to_channels(const Tensor& x) const { return linear_to_channels(x, weight_, bias_); }
Tensor Linear::from_channels(const Tensor& x) const { return linear_from_channels(x, weight_, bias_); }

std::string Linear::summary() const {
  return message(weight_.size(1), " -> ", weight_.size(0), bias_.defined() ? "" : ", no bias");
}

}  // namespace mahia::nn
