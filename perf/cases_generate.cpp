// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>

#include "autograd/grad_mode.hpp"
#include "core/factory.hpp"
#include "core/runtime.hpp"
#include "nn/models/hyena_moe_lm.hpp"
#include "ops/shape.hpp"
#include "perf/harness.hpp"
#include "train/generate.hpp"

namespace mahia::perf {
namespace {

// The model of lm.step.cpu-tiny, for sequences of `longest` tokens.
std::shared_ptr<nn::models::HyenaMoeLM> writer(int64_t longest, Device device) {
  const auto model = std::make_shared<nn::models::HyenaMoeLM>(
      nn::models::HyenaMoeLMConfig{.width = 128, .l_max = longest, .hidden = 256});
  model->eval();
  model->to(device);
  return model;
}

// Writing `length` bytes after a prompt of one, the likeliest each time.
Case writing(const std::string& name, int64_t length, Device device) {
  return {.name = fmt::format("{}.L{}", name, length),
          .prepare =
              [length, device] {
                const train::GenerateOptions options{.tokens = length, .sampling = {.temperature = 0}};
                return [model = writer(length + 1, device), options] {
                  train::generate(*model, "a", train::byte_vocabulary(), options);
                };
              },
          .tokens = static_cast<double>(length),
          .device = device,
          .least_batches = length > 16384 ? 3 : 10};
}

// What one forward over everything so far costs per byte: at 16 lengths in the middles of sixteenths of `length`.
Case reading_again(int64_t length) {
  return {.name = fmt::format("generate.forwards16.L{}", length),
          .prepare =
              [length] {
                const auto model = writer(length, cpu_device);
                const Tensor tokens = randint(0, 256, {1, length});
                return [model, tokens, length] {
                  const NoGrad no_grad;
                  for (int64_t i = 0; i < 16; ++i) model->last_logits(narrow(tokens, 1, 0, length * (2 * i + 1) / 32));
                };
              },
          .tokens = 16};
}

const Cases generate_cases([] {
  std::vector<Case> cases = {reading_again(4096)};
  for (const int64_t length : {1024, 4096, 16384, 65536})
    cases.push_back(writing("generate.cpu-tiny", length, cpu_device));
  if (device_count(DeviceType::cuda) == 0) return cases;
  for (const int64_t length : {1024, 4096, 16384, 65536})
    cases.push_back(writing("generate.gpu-tiny", length, {DeviceType::cuda, 0}));
  return cases;
});

}  // namespace
}  // namespace mahia::perf
