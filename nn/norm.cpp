// SPDX-License-Identifier: Apache-2.0
#include "nn/norm.hpp"

#include "autograd/checkpoint.hpp"
#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/binary.hpp"
#include "ops/norm.hpp"

namespace mahia::nn {
namespace {

Shape checked(const char* layer, const char* what, int64_t size) {
  check<ValueError>(size >= 1, layer, ": ", what, " is ", size, ", must be at least 1");
  return {size};
}

}  // namespace

LayerNorm::LayerNorm(int64_t width, double eps, bool bias) : eps_(eps) {
  weight_ = parameter("weight", ones(checked("LayerNorm", "width", width)));
  if (bias) bias_ = parameter("bias", zeros({width}));
}

Tensor LayerNorm::operator()(const Tensor& x) const { return layer_norm(x, weight_, bias_, eps_); }
std::string LayerNorm::summary() const { return message(weight_.size(0)); }

RMSNorm::RMSNorm(int64_t width, double eps) : eps_(eps) {
  weight_ = parameter("weight", ones(checked("RMSNorm", "width", width)));
}

Tensor RMSNorm::operator()(const Tensor& x) const { return rms_norm(x, weight_, eps_); }
std::string RMSNorm::summary() const { return message(weight_.size(0)); }

BatchNorm1d::BatchNorm1d(int64_t channels, double eps, double momentum) : eps_(eps), momentum_(momentum) {
  weight_ = parameter("weight", ones(checked("BatchNorm1d", "channels", channels)));
  bias_ = parameter("bias", zeros({channels}));
  running_mean_ = buffer("running_mean", zeros({channels}));
  running_var_ = buffer("running_var", ones({channels}));
  num_batches_tracked_ = buffer("num_batches_tracked", zeros({}, DType::i64));
}

Tensor BatchNorm1d::operator()(const Tensor& x) {
  const BatchNorm out = batch_norm(x, weight_, bias_, running_mean_, running_var_, training(), momentum_, eps_);
  if (training() && !recomputing()) {
    const NoGrad no_grad;
    copy_into(out.running_mean, running_mean_);
    copy_into(out.running_var, running_var_);
    copy_into(num_batches_tracked_ + 1.0, num_batches_tracked_);
  }
  return out.y;
}

std::string BatchNorm1d::summary() const { return message(weight_.size(0)); }

}  // namespace mahia::nn
