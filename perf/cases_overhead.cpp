// SPDX-License-Identifier: Apache-2.0
// What one tiny op costs: 8 floats, so that the arithmetic is free.
#include <memory>

#include "autograd/backward.hpp"
#include "core/factory.hpp"
#include "ops/binary.hpp"
#include "ops/reduce.hpp"
#include "perf/harness.hpp"

namespace mahia::perf {
namespace {

struct Operands {
  explicit Operands(bool gradient) { x.set_requires_grad(gradient); }
  Tensor x = randn({8}), y = rand({8}) + 0.5;
};

// Ten pointwise ops.
Tensor chain(Tensor x, const Tensor& y) {
  for (int i = 0; i < 5; ++i) x = (x + y) * y;
  return x;
}

const Cases overhead_cases([] {
  const auto with = [](bool gradient, void (*work)(const Operands&)) {
    return [=] { return [=, o = std::make_shared<Operands>(gradient)] { work(*o); }; };
  };
  return std::vector<Case>{
      {"ovh.add8", with(false, [](const Operands& o) { add(o.x, o.y); })},
      {"ovh.add8.grad", with(true, [](const Operands& o) { add(o.x, o.y); })},
      {"ovh.add8.fwdbwd", with(true,
                               [](const Operands& o) {
                                 backward(sum(add(o.x, o.y)));
                                 o.x.set_grad({});
                               })},
      {"ovh.chain10.fwdbwd", with(true,
                                  [](const Operands& o) {
                                    backward(sum(chain(o.x, o.y)));
                                    o.x.set_grad({});
                                  })},
  };
});

}  // namespace
}  // namespace mahia::perf
