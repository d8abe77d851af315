// SPDX-License-Identifier: Apache-2.0
#include "ops/optim_step.hpp"

#include "core/factory.hpp"

namespace mahia {
namespace {

std::vector<View> targets(const Tensors& xs) {
  std::vector<View> views;
  for (const Tensor& x : xs) views.push_back(x.defined() ? x.mutable_view() : View());
  return views;
}

std::vector<ConstView> sources(const Tensors& xs) { return {xs.begin(), xs.end()}; }

void check_lists(const char* op, const OptimizerTensors& t, const Tensors& moments, bool may_be_empty) {
  check<ValueError>(t.grads.size() == t.masters.size() && t.copies.size() == t.masters.size() &&
                        (moments.size() == t.masters.size() || (may_be_empty && moments.empty())),
                    op, ": lists of different lengths: ", t.masters.size(), " masters, ", t.copies.size(), " copies, ",
                    t.grads.size(), " gradients, ", moments.size(), " moments");
  for (size_t i = 0; i < t.masters.size(); ++i) {
    const Tensor &x = t.masters[i], &dx = t.grads[i];
    check<DTypeError>(x.dtype() == DType::f32 || x.dtype() == DType::f64, op, ": needs f32 or f64 masters, got ", x);
    check<DTypeError>(dx.dtype() == x.dtype(), op, ": master ", x, " and gradient ", dx, " differ in dtype");
    check<ShapeError>(dx.shape() == x.shape(), op, ": master ", x, " and gradient ", dx, " differ in shape");
    check<ShapeError>(x.is_contiguous() && dx.is_contiguous(), op, ": needs contiguous tensors: ", x, ", ", dx);
    if (moments.empty()) continue;
    check<ShapeError>(moments[i].shape() == x.shape() && moments[i].is_contiguous(), op, ": moment ", moments[i],
                      " does not fit its master ", x);
    check<DTypeError>(moments[i].dtype() == x.dtype(), op, ": master ", x, " and moment ", moments[i],
                      " differ in dtype");
  }
}

void check_number(const char* op, const char* name, const Tensor& x) {
  check<ValueError>(x.defined() && x.dtype() == DType::f64 && x.numel() == 1, op, ": ", name,
                    " must be f64 with one element, got ", x);
}

void check_scalars(const char* op, const StepScalars& s) {
  check_number(op, "lr", s.lr);
  if (s.clip.defined()) check_number(op, "clip", s.clip);
}

}  // namespace

void adamw_step(const OptimizerTensors& t, const StepScalars& s, const AdamWOptions& options) {
  check_lists("adamw_step", t, t.first, false);
  check_lists("adamw_step", t, t.second, false);
  check_scalars("adamw_step", s);
  check_number("adamw_step", "step", s.step);
  if (t.masters.empty()) return;
  kernels::adamw_step(targets(t.masters), targets(t.copies), sources(t.grads), targets(t.first), targets(t.second),
                      s.lr, s.step, s.clip, options);
}

void sgd_step(const OptimizerTensors& t, const StepScalars& s, const SgdOptions& options, bool started) {
  check_lists("sgd_step", t, t.first, options.momentum == 0);
  check_scalars("sgd_step", s);
  check<ValueError>(!options.nesterov || (options.momentum > 0 && options.dampening == 0),
                    "sgd_step: nesterov needs a momentum and no dampening");
  if (t.masters.empty()) return;
  kernels::sgd_step(targets(t.masters), targets(t.copies), sources(t.grads), targets(t.first), s.lr, s.clip, options,
                    started);
}

Tensor grad_norm(const Tensors& grads) {
  const Device device = grads.empty() ? cpu_device : grads[0].device();
  const Tensor norm = zeros({}, DType::f64, device);
  for (const Tensor& dx : grads) {
    check<DTypeError>(dx.dtype() == DType::f32 || dx.dtype() == DType::f64, "grad_norm: needs f32 or f64, got ", dx);
    check<ShapeError>(dx.is_contiguous(), "grad_norm: needs contiguous tensors, got ", dx);
  }
  if (!grads.empty()) kernels::grad_norm(sources(grads), norm.output_view());
  return norm;
}

Tensor clip_coefficient(const Tensor& norm, double max_norm) {
  check<ValueError>(max_norm > 0, "clip_coefficient: max_norm is ", max_norm, ", must be above 0");
  check_number("clip_coefficient", "norm", norm);
  const Tensor coefficient = empty({}, DType::f64, norm.device());
  kernels::clip_coefficient(norm, max_norm, coefficient.output_view());
  return coefficient;
}

}  // namespace mahia
