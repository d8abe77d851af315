// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../ops/pointwise.hpp"
#include "module.hpp"

namespace mahia::nn {

// Pointwise functions as modules, for Sequential.
class Relu : public Module {
 public:
  Tensor operator()(const Tensor& x) const { return relu(x); }
};

class Tanh : public Module {
 public:
  Tensor operator()(const Tensor& x) const { return tanh(x); }
};

class Sigmoid : public Module {
 public:
  Tensor operator()(const Tensor& x) const { return sigmoid(x); }
};

class Silu : public Module {
 public:
  Tensor operator()(const Tensor& x) const { return silu(x); }
};

class Gelu : public Module {
 public:
  explicit Gelu(Approximate approximate = Approximate::none) : approximate_(approximate) {}
  Tensor operator()(const Tensor& x) const { return gelu(x, approximate_); }

 private:
  Approximate approximate_;
};

class Softplus : public Module {
 public:
  explicit Softplus(double beta = 1, double threshold = 20) : beta_(beta), threshold_(threshold) {}
  Tensor operator()(const Tensor& x) const { return softplus(x, beta_, threshold_); }

 private:
  double beta_, threshold_;
};

}  // namespace mahia::nn
