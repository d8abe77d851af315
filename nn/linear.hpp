// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "module.hpp"

namespace mahia::nn {

// y = x weight^T + bias; weight (out, in), bias (out), both U(-1/sqrt(in), 1/sqrt(in)) at first, as torch.nn.Linear.
class Linear : public Module {
 public:
  Linear(int64_t in, int64_t out, bool bias = true);
  Tensor operator()(const Tensor& x) const;  // (.., in) -> (.., out)
  // The same written or read channel-first, without a transposing copy.
  Tensor to_channels(const Tensor& x) const;    // (B, T, in) -> (out, B, T)
  Tensor from_channels(const Tensor& x) const;  // (in, B, T) -> (B, T, out)
  const Tensor& weight() const { return weight_; }
  std::string summary() const override;

 private:
  Tensor weight_, bias_;
};

}  // namespace mahia::nn
