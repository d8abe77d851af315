// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../ops/moe.hpp"
#include "module.hpp"

namespace mahia::nn {

enum class ExpertKind : uint8_t {
  gelu,      // w_down gelu(w_up x), gelu in its tanh form
  gelu_erf,  // the same with the exact gelu
  swiglu,    // w_down (silu(w_gate x) * (w_up x)) (Shazeer 2020)
};

struct ExpertsConfig {
  int64_t width = 64;       // D
  int64_t hidden = 256;     // H
  int64_t num_experts = 8;  // E
  ExpertKind kind = ExpertKind::gelu;
  bool bias = false;  // b_up, b_gate (E, H) and b_down (E, D)
};

// All experts of a layer, stacked: w_up, w_gate (E, H, D), w_down (E, D, H), each expert U(-1/sqrt(in), 1/sqrt(in)) at
// first. They are applied in one grouped call per matrix, whatever E is.
class Experts : public Module {
 public:
  explicit Experts(const ExpertsConfig& c);
  // rows (N k, D) in the plan's expert order -> (N k, D).
  Tensor operator()(const Tensor& rows, const MoePlan& plan) const;
  std::string summary() const override;

 private:
  // up (N k, H) -> what w_down multiplies, (N k, H).
  Tensor activated(const Tensor& rows, const Tensor& up, const MoePlan& plan) const;

  ExpertsConfig config_;
  Tensor w_up_, w_gate_, w_down_, b_up_, b_gate_, b_down_;
};

}  // namespace mahia::nn
