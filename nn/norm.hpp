// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "module.hpp"

namespace mahia::nn {

// Over the last axis: (x - mean) / sqrt(var + eps) * weight + bias; weight 1 and bias 0 at first.
class LayerNorm : public Module {
 public:
  explicit LayerNorm(int64_t width, double eps = 1e-5, bool bias = true);
  Tensor operator()(const Tensor& x) const;
  std::string summary() const override;

 private:
  Tensor weight_, bias_;
  double eps_;
};

// Over the last axis: x / sqrt(mean(x^2) + eps) * weight; eps is the distance from 1 to the next f32, as in PyTorch.
class RMSNorm : public Module {
 public:
  explicit RMSNorm(int64_t width, double eps = 0x1p-23);
  Tensor operator()(const Tensor& x) const;
  std::string summary() const override;

 private:
  Tensor weight_;
  double eps_;
};

// Per channel of x (N, C) or (N, C, T), as torch.nn.BatchNorm1d: batch statistics while training, running ones after.
class BatchNorm1d : public Module {
 public:
  explicit BatchNorm1d(int64_t channels, double eps = 1e-5, double momentum = 0.1);
  Tensor operator()(const Tensor& x);
  std::string summary() const override;

 private:
  Tensor weight_, bias_, running_mean_, running_var_, num_batches_tracked_;
  double eps_, momentum_;
};

}  // namespace mahia::nn
