// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>

#include "autograd/backward.hpp"
#include "core/factory.hpp"
#include "nn/models/hyena_moe_lm.hpp"
#include "ops/binary.hpp"
#include "perf/harness.hpp"
#include "train/optimizer.hpp"

namespace mahia::perf {
namespace {

// One training step: forward, backward, clipping, AdamW, on random bytes.
struct Training {
  Training(const nn::models::HyenaMoeLMConfig& c, int64_t batch)
      : model(c),
        optimizer(model),
        tokens(randint(0, c.vocab, {batch, c.l_max})),
        targets(randint(0, c.vocab, {batch, c.l_max})),
        aux(0.01 * static_cast<double>(c.layers)) {}

  void step() {
    const auto out = model.loss(tokens, targets);
    optimizer.zero_grad();
    backward(out.loss + out.aux * aux);
    optimizer.clip_grad_norm(1.0);
    optimizer.step(3e-4);
  }

  nn::models::HyenaMoeLM model;
  train::AdamW optimizer;
  Tensor tokens, targets;
  double aux;
};

const Cases lm_cases([] {
  struct Size {
    const char* name;
    int64_t width, hidden, batch, time;
  };
  std::vector<Case> cases;
  for (const Size& s : {Size{"cpu-tiny", 128, 256, 8, 512}, Size{"cpu-small", 256, 512, 4, 1024}}) {
    cases.push_back({.name = fmt::format("lm.step.{}", s.name),
                     .prepare =
                         [s] {
                           nn::models::HyenaMoeLMConfig c{.width = s.width, .l_max = s.time, .hidden = s.hidden};
                           return [t = std::make_shared<Training>(c, s.batch)] { t->step(); };
                         },
                     .tokens = static_cast<double>(s.batch * s.time)});
  }
  return cases;
});

}  // namespace
}  // namespace mahia::perf
