// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/factory.hpp"
#include "core/runtime.hpp"
#include "nn/sparse_moe.hpp"
#include "ops/linear.hpp"
#include "ops/moe.hpp"
#include "ops/softmax.hpp"
#include "ops/sort.hpp"
#include "perf/harness.hpp"

namespace mahia::perf {
namespace {

struct Shape5 {
  int64_t tokens, width, hidden, experts, k;
};

void clear_gradients(const Tensors& xs) {
  for (const Tensor& x : xs) x.set_grad({});
}

// The layer with its Switch loss, forward and backward.
std::function<void()> layer(const Shape5& s) {
  const auto moe = std::make_shared<nn::SparseMoETopK>(
      nn::MoeConfig{.width = s.width, .hidden = s.hidden, .num_experts = s.experts, .top_k = s.k});
  const Tensor x = randn({s.tokens, s.width}).set_requires_grad(true), dy = randn({s.tokens, s.width});
  Tensors wanted = moe->parameters();
  wanted.push_back(x);
  return [=, one = ones({})] {
    const nn::MoeOutput out = (*moe)(x);
    backward({out.y, out.losses[nn::AuxLoss::balance]}, {dy, one});
    clear_gradients(wanted);
  };
}

// The floor: the same multiplications as two dense maps of all N k rows, forward and backward, and nothing else.
std::function<void()> dense(const Shape5& s) {
  const int64_t rows = s.tokens * s.k;
  const Tensor x = randn({rows, s.width}).set_requires_grad(true), dy = randn({rows, s.width});
  const Tensor up = randn({s.hidden, s.width}).set_requires_grad(true);
  const Tensor down = randn({s.width, s.hidden}).set_requires_grad(true);
  return [=] {
    backward({linear(linear(x, up), down)}, {dy});
    clear_gradients({x, up, down});
  };
}

// From the logits of 16,384 tokens to the places of their pairs: what routing takes beside the experts.
Case routing(Device device) {
  return {.name = fmt::format("moe.route.{}.N16384E64K2", device.type == DeviceType::cpu ? "cpu" : "gpu"),
          .prepare =
              [device] {
                const Tensor logits = randn({16384, 64}, DType::f32, device);
                return [logits] {
                  const NoGrad no_grad;
                  moe_plan(topk(softmax(logits), 2).indices, 64);
                };
              },
          .device = device};
}

const Cases moe_cases([] {
  std::vector<Case> cases = {routing(cpu_device)};
  if (device_count(DeviceType::cuda) > 0) cases.push_back(routing({DeviceType::cuda, 0}));
  for (const Shape5& s : {Shape5{2048, 256, 512, 8, 2}, Shape5{2048, 512, 1024, 16, 2}}) {
    const std::string shape = fmt::format("T{}D{}H{}E{}K{}", s.tokens, s.width, s.hidden, s.experts, s.k);
    const double flops = 12.0 * static_cast<double>(s.tokens * s.k * s.width * s.hidden);
    cases.push_back({"moe.fwdbwd." + shape, [s] { return layer(s); }, flops});
    cases.push_back({"moe.dense." + shape, [s] { return dense(s); }, flops});
  }
  return cases;
});

}  // namespace
}  // namespace mahia::perf
