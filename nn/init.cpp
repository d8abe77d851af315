// SPDX-License-Identifier: Apache-2.0
#include "nn/init.hpp"

#include <algorithm>
#include <cmath>

#include "autograd/grad_mode.hpp"
#include "ops/binary.hpp"

namespace mahia::nn::init {

Tensor uniform(const Shape& shape, double bound, const RandomCall& call) {
  const NoGrad no_grad;
  return rand(shape, call) * (2 * bound) - bound;
}

Tensor normal(const Shape& shape, double std, const RandomCall& call) {
  const NoGrad no_grad;
  return randn(shape, call) * std;
}

Tensor fan_in_uniform(const Shape& shape, int64_t fan_in, const RandomCall& call) {
  return uniform(shape, 1 / std::sqrt(static_cast<double>(std::max<int64_t>(fan_in, 1))), call);
}

}  // namespace mahia::nn::init
