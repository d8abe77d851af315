// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../ops/conv1d.hpp"
#include "module.hpp"

namespace mahia::nn {

// As torch.nn.Conv1d: weight (out, in / groups, K) and bias (out), both U(-1/sqrt(fan_in), 1/sqrt(fan_in)) at first.
class Conv1d : public Module {
 public:
  Conv1d(int64_t in, int64_t out, int64_t taps, const Conv1dOptions& options = {}, bool bias = true);
  Tensor operator()(const Tensor& x) const;  // (B, in, T) -> (B, out, T')
  const Tensor& weight() const { return weight_; }
  const Tensor& bias() const { return bias_; }  // undefined without
  std::string summary() const override;

 private:
  Tensor weight_, bias_;
  Conv1dOptions options_;
};

}  // namespace mahia::nn
