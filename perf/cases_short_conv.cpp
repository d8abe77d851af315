// SPDX-License-Identifier: Apache-2.0
#include <memory>

#include "autograd/backward.hpp"
#include "core/factory.hpp"
#include "ops/conv1d.hpp"
#include "perf/harness.hpp"

namespace mahia::perf {
namespace {

// The causal depthwise convolution of the Hyena operator, forward and backward.
struct Operands {
  static constexpr int64_t batch = 8, channels = 768, time = 1024, taps = 3;
  Operands() {
    for (Tensor* t : {&x, &weight, &bias}) t->set_requires_grad(true);
  }
  void run() const {
    const Tensor y = conv1d(x, weight, bias, {.padding = Padding::causal, .groups = channels});
    backward(Tensors{y}, Tensors{dy});
    for (const Tensor* t : {&x, &weight, &bias}) t->set_grad({});
  }
  Tensor x = randn({batch, channels, time}), dy = randn({batch, channels, time});
  Tensor weight = randn({channels, 1, taps}), bias = randn({channels});
};

const Cases short_conv_cases([] {
  return std::vector<Case>{
      {"short.fwdbwd.B8D768L1024K3", [] { return [o = std::make_shared<Operands>()] { o->run(); }; }}};
});

}  // namespace
}  // namespace mahia::perf
