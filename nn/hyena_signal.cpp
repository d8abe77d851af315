// SPDX-License-Identifier: Apache-2.0
#include "nn/hyena_signal.hpp"

#include "core/factory.hpp"
#include "ops/cat.hpp"
#include "ops/compare.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"

namespace mahia::nn {

Tensor activated(const Tensor& x, HyenaActivation activation) {
  switch (activation) {
    case HyenaActivation::none:
      return x;
    case HyenaActivation::relu:
      return relu(x);
    case HyenaActivation::gelu:
      return gelu(x);
    case HyenaActivation::silu:
      return silu(x);
    case HyenaActivation::tanh:
      return tanh(x);
    case HyenaActivation::sigmoid:
      return sigmoid(x);
  }
  fail<ValueError>("HyenaOperator: activation ", static_cast<int>(activation), " is none that there is");
}

Tensor kept(const Tensor& x, const Tensor& mask) { return mask ? where(mask, x, scalar(0, x.dtype(), x.device())) : x; }

Tensor for_each_head(const Tensor& x, int64_t heads) {
  if (heads == 1 || !x) return x;
  Shape repeated = x.shape(), joined = x.shape();
  repeated.insert(0, heads);
  joined[0] *= heads;
  return reshape(expand(unsqueeze(x, 0), repeated), joined);
}

Tensor summed_in_heads(const Tensor& x, int64_t heads) {
  const Shape by_head{heads, x.size(0) / heads, x.size(1), x.size(2)};
  return reshape(expand(sum(reshape(x, by_head), {1}, true), by_head), x.shape());
}

Tensor in_blocks(const Tensor& x, int64_t length) {
  if (length == x.size(2)) return x;
  const int64_t missing = (length - x.size(2) % length) % length;
  const Tensor whole = missing > 0 ? pad(x, {0, missing}) : x;
  return reshape(whole, {x.size(0), x.size(1) * (whole.size(2) / length), length});
}

Tensor out_of_blocks(const Tensor& x, int64_t batch, int64_t time) {
  if (x.size(1) == batch && x.size(2) == time) return x;
  const int64_t blocks = batch > 0 ? x.size(1) / batch : 1;
  const Tensor y = reshape(x, {x.size(0), batch, blocks * x.size(2)});
  return batch > 0 ? narrow(y, 2, 0, time) : reshape(y, {x.size(0), 0, time});
}

Tensor long_conv_channel_first(const Tensor& x, const Tensor& h, LongConvOptions options) {
  for (Tensor* gate : {&options.gate_before, &options.gate_after}) {
    if (*gate) *gate = transpose(*gate, 0, 1);
  }
  return transpose(long_conv(transpose(x, 0, 1), h, options), 0, 1);
}

}  // namespace mahia::nn
