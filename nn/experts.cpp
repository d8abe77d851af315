// SPDX-License-Identifier: Apache-2.0
#include "nn/experts.hpp"

#include "nn/init.hpp"
#include "ops/binary.hpp"
#include "ops/grouped_mm.hpp"
#include "ops/pointwise.hpp"

namespace mahia::nn {

Experts::Experts(const ExpertsConfig& c) : config_(c) {
  check<ValueError>(c.width >= 1 && c.hidden >= 1 && c.num_experts >= 1, "Experts: width ", c.width, ", hidden ",
                    c.hidden, " and num_experts ", c.num_experts, " must be at least 1");
  const auto stack = [&](const char* name, int64_t out, int64_t in) {
    return parameter(name, init::fan_in_uniform({c.num_experts, out, in}, in, init_call(name)));
  };
  const auto biases = [&](const char* name, int64_t out, int64_t in) {
    return c.bias ? parameter(name, init::fan_in_uniform({c.num_experts, out}, in, init_call(name))) : Tensor();
  };
  w_up_ = stack("w_up", c.hidden, c.width);
  if (c.kind == ExpertKind::swiglu) w_gate_ = stack("w_gate", c.hidden, c.width);
  w_down_ = stack("w_down", c.width, c.hidden);
  b_up_ = biases("b_up", c.hidden, c.width);
  if (c.kind == ExpertKind::swiglu) b_gate_ = biases("b_gate", c.hidden, c.width);
  b_down_ = biases("b_down", c.width, c.hidden);
}

Tensor Experts::operator()(const Tensor& rows, const MoePlan& plan) const {
  const Tensor up = grouped_mm(rows, w_up_, plan.offsets, b_up_);                // (N k, H)
  return grouped_mm(activated(rows, up, plan), w_down_, plan.offsets, b_down_);  // (N k, D)
}

Tensor Experts::activated(const Tensor& rows, const Tensor& up, const MoePlan& plan) const {
  switch (config_.kind) {
    case ExpertKind::gelu:
      return gelu(up, Approximate::tanh);
    case ExpertKind::gelu_erf:
      return gelu(up);
    default:
      return silu(grouped_mm(rows, w_gate_, plan.offsets, b_gate_)) * up;
  }
}

std::string Experts::summary() const {
  constexpr const char* names[] = {"gelu", "gelu_erf", "swiglu"};
  return message(config_.num_experts, " x ", names[static_cast<size_t>(config_.kind)], " ", config_.width, " -> ",
                 config_.hidden, " -> ", config_.width);
}

}  // namespace mahia::nn
