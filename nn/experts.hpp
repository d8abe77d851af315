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

// The experts of a layer, whatever they are. docs/moe.md shows one of a user's own.
class ExpertStack : public Module {
 public:
  // What each pair's expert makes of its token: tokens (N, D), `sequences` of them one after another, and who goes
  // where
  // -> rows (R, D) in the plan's expert order. Nobody looks at rows where the plan's order is -1.
  virtual Tensor operator()(const Tensor& tokens, const MoePlan& plan, int64_t sequences) const = 0;
};

// All experts of a layer, stacked: w_up, w_gate (E, H, D), w_down (E, D, H), each expert U(-1/sqrt(in), 1/sqrt(in)) at
// first. They are applied in one grouped call per matrix, whatever E is.
class Experts : public ExpertStack {
 public:
  explicit Experts(const ExpertsConfig& c);
  Tensor operator()(const Tensor& tokens, const MoePlan& plan, int64_t sequences) const override;
  // One expert alone, for every token: (N, D) -> (N, D). Throws ValueError for more than one.
  Tensor for_all(const Tensor& tokens) const;
  std::string summary() const override;

 private:
  // rows (R, D) of the experts that `offsets` says -> (R, D).
  Tensor applied(const Tensor& rows, const Tensor& offsets) const;
  // up (R, H) -> what w_down multiplies, (R, H).
  Tensor activated(const Tensor& rows, const Tensor& up, const Tensor& offsets) const;

  ExpertsConfig config_;
  Tensor w_up_, w_gate_, w_down_, b_up_, b_gate_, b_down_;
};

}  // namespace mahia::nn
