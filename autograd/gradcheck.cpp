// SPDX-License-Identifier: Apache-2.0
#include "autograd/gradcheck.hpp"

#include <cmath>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"

namespace mahia {
namespace {

using Function = std::function<Tensors(const Tensors&)>;

// One fixed weight tensor per floating output, so that every output element matters differently.
Tensors weights_for(const Tensors& outputs) {
  Tensors weights;
  for (size_t k = 0; k < outputs.size(); ++k) {
    const RandomCall call{random_key("gradcheck", "weights"), static_cast<uint16_t>(k), 0};
    const bool counts = outputs[k].defined() && is_floating_point(outputs[k].dtype());
    weights.push_back(counts ? randn(outputs[k].shape(), call, outputs[k].dtype(), outputs[k].device()) : Tensor());
  }
  return weights;
}

double weighted_sum(const Function& fn, const Tensors& inputs, const Tensors& weights) {
  const NoGrad no_grad;
  const Tensors outputs = fn(inputs);
  double total = 0;
  for (size_t k = 0; k < outputs.size(); ++k) {
    if (!weights[k].defined()) continue;
    const auto y = outputs[k].to_vector<double>(), w = weights[k].to_vector<double>();
    for (size_t i = 0; i < y.size(); ++i) total += y[i] * w[i];
  }
  return total;
}

// Leaves with the inputs' values; strides are kept, since views are part of what is tested.
Tensors as_leaves(const Tensors& inputs) {
  Tensors leaves;
  for (const Tensor& x : inputs) {
    leaves.push_back(x.defined() ? x.detach() : Tensor());
    if (!x.defined() || !x.requires_grad()) continue;
    check<DTypeError>(x.dtype() == DType::f64, "gradcheck: inputs that require a gradient must be f64, got ", x);
    leaves.back().set_requires_grad(true);
  }
  return leaves;
}

void check_input(const Function& fn, Tensors& inputs, size_t i, const Tensor& analytic, const Tensors& weights,
                 const GradcheckOptions& options) {
  const std::vector<double> values = inputs[i].to_vector<double>();
  const std::vector<double> dx =
      analytic.defined() ? analytic.to_vector<double>() : std::vector<double>(values.size(), 0.0);
  for (size_t j = 0; j < values.size(); ++j) {
    const auto at = [&](double value) {
      std::vector<double> moved = values;
      moved[j] = value;
      overwrite(Tensor::from(moved, inputs[i].shape(), inputs[i].device()), inputs[i]);
      return weighted_sum(fn, inputs, weights);
    };
    const double numeric = (at(values[j] + options.eps) - at(values[j] - options.eps)) / (2 * options.eps);
    check<ValueError>(std::abs(dx[j] - numeric) <= options.atol + options.rtol * std::abs(numeric), "gradcheck: input ",
                      i, " ", inputs[i], ", element ", j, ": analytic ", dx[j], ", numeric ", numeric);
  }
  overwrite(Tensor::from(values, inputs[i].shape(), inputs[i].device()), inputs[i]);
}

}  // namespace

void gradcheck(const Function& fn, const Tensors& inputs, const GradcheckOptions& options) {
  Tensors leaves = as_leaves(inputs);
  const Tensors outputs = fn(leaves);
  const Tensors weights = weights_for(outputs);
  Tensors roots, grads;
  for (size_t k = 0; k < outputs.size(); ++k) {
    if (!weights[k].defined() || !outputs[k].requires_grad()) continue;
    roots.push_back(outputs[k]);
    grads.push_back(weights[k]);
  }
  check<ValueError>(!roots.empty(), "gradcheck: no output requires a gradient");
  backward(roots, grads);
  Tensors analytic;
  for (Tensor& leaf : leaves) {
    const bool wanted = leaf.defined() && leaf.requires_grad();
    analytic.push_back(wanted ? leaf.grad() : Tensor());
  }
  for (size_t i = 0; i < leaves.size(); ++i) {
    if (leaves[i].defined() && leaves[i].requires_grad()) check_input(fn, leaves, i, analytic[i], weights, options);
  }
}

void gradcheck(const std::function<Tensor(const Tensors&)>& fn, const Tensors& inputs,
               const GradcheckOptions& options) {
  gradcheck(Function([&fn](const Tensors& x) { return Tensors{fn(x)}; }), inputs, options);
}

}  // namespace mahia
