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

void gpt2(const Module& model, int64_t layers) {
  constexpr double std = 0.02;
  const double residual_std = std / std::sqrt(2.0 * static_cast<double>(std::max<int64_t>(layers, 1)));
  const NoGrad no_grad;
  bool follows_map = false;  // a linear map's bias comes right after its weight
  for (const auto& [name, tensor] : model.named_parameters()) {
    const std::string last = name.substr(name.rfind('.') + 1);
    const bool is_map = last == "weight" ? tensor.rank() == 2 : last.starts_with("w_");
    const bool is_bias = last == "bias" ? follows_map : last.starts_with("b_");
    const bool is_residual = name.ends_with("out_proj.weight") || name.ends_with("fc2.weight") || last == "w_down";
    const RandomCall call{random_key(model.path() + "/" + name, "init gpt2")};
    if (is_map) copy_into(normal(tensor.shape(), is_residual ? residual_std : std, call), tensor);
    if (is_bias) copy_into(zeros(tensor.shape()), tensor);
    follows_map = is_map;
  }
}

}  // namespace mahia::nn::init
