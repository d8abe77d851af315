// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "../core/kernel.hpp"
#include "../core/tensor.hpp"

namespace mahia {

// Constants of one parameter group.
struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.01;
  double lr_scale = 1;  // the group's learning rate is lr * lr_scale
};
struct SgdOptions {
  double momentum = 0;
  double dampening = 0;
  double weight_decay = 0;
  bool nesterov = false;
  double lr_scale = 1;
};

// What changes from step to step: f64 tensors with one element on the parameters' device, so that a captured step reads
// new values. `clip` multiplies every gradient; undefined: 1.
struct StepScalars {
  Tensor lr;
  Tensor step;  // AdamW: t of the bias corrections 1 - beta^t; 1 at the first step
  Tensor clip;
};

// The updates change all tensors of a group in place, in one call, with PyTorch's formulas (torch.optim.AdamW,
// Loshchilov and Hutter 2019; torch.optim.SGD). masters, gradients and moments are f32 or f64 and contiguous.
// copies[i], where defined, is the bf16 parameter that receives the rounded new value of masters[i]. Throw ShapeError,
// DTypeError.
struct OptimizerTensors {
  Tensors masters, copies, grads;
  Tensors first, second;  // AdamW: both moments; SGD: `first` is the momentum buffer, `second` stays empty
};
void adamw_step(const OptimizerTensors& t, const StepScalars& s, const AdamWOptions& options);
// `started` is false for the first update of these tensors, which fills the momentum buffers with the gradients.
void sgd_step(const OptimizerTensors& t, const StepScalars& s, const SgdOptions& options, bool started);

// The 2-norm over all elements of all tensors, as an f64 tensor of shape []; summed in f64 in an order that depends on
// the shapes alone.
Tensor grad_norm(const Tensors& grads);
// min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_.
Tensor clip_coefficient(const Tensor& norm, double max_norm);

namespace kernels {
using Views = std::span<const View>;
using ConstViews = std::span<const ConstView>;
inline constinit Kernel<void(Views masters, Views copies, ConstViews grads, Views first, Views second, ConstView lr,
                             ConstView step, ConstView clip, AdamWOptions options)>
    adamw_step{"adamw_step"};
inline constinit Kernel<void(Views masters, Views copies, ConstViews grads, Views buffers, ConstView lr, ConstView clip,
                             SgdOptions options, bool started)>
    sgd_step{"sgd_step"};
inline constinit Kernel<void(ConstViews grads, View norm)> grad_norm{"grad_norm"};
inline constinit Kernel<void(ConstView norm, double max_norm, View coefficient)> clip_coefficient{"clip_coefficient"};
}  // namespace kernels

}  // namespace mahia
