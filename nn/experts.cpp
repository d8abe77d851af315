// SPDX-License-Identifier: Apache-2.0
#include "nn/experts.hpp"

#include "core/factory.hpp"
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

Tensor Experts::operator()(const Tensor& tokens, const MoePlan& plan, int64_t) const {
  return applied(moe_dispatch(tokens, plan), plan.offsets);
}

Tensor Experts::for_all(const Tensor& tokens) const {
  check<ValueError>(config_.num_experts == 1, "Experts: only a single expert serves all tokens, there are ",
                    config_.num_experts);
  return applied(tokens, moe_plan(zeros({tokens.size(0), 1}, DType::i64, tokens.device()), 1).offsets);
}

Tensor Experts::applied(const Tensor& rows, const Tensor& offsets) const {
  const Tensor up = grouped_mm(rows, w_up_, offsets, b_up_);                   // (R, H)
  return grouped_mm(activated(rows, up, offsets), w_down_, offsets, b_down_);  // (R, D)
}

Tensor Experts::activated(const Tensor& rows, const Tensor& up, const Tensor& offsets) const {
  switch (config_.kind) {
    case ExpertKind::gelu:
      return gelu(up, Approximate::tanh);
    case ExpertKind::gelu_erf:
      return gelu(up);
    default:
      return silu(grouped_mm(rows, w_gate_, offsets, b_gate_)) * up;
  }
}

std::string Experts::summary() const {
  constexpr const char* names[] = {"gelu", "gelu_erf", "swiglu"};
  return message(config_.num_experts, " x ", names[static_cast<size_t>(config_.kind)], " ", config_.width, " -> ",
                 config_.hidden, " -> ", config_.width);
}

}  // namespace mahia::nn
