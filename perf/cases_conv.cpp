// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <set>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/factory.hpp"
#include "ops/long_conv.hpp"
#include "perf/harness.hpp"

namespace mahia::perf {
namespace {

struct Operands {
  Tensor u, h, skip, before, after, dy;
  ConvAlgorithm algorithm = ConvAlgorithm::automatic;
};

std::shared_ptr<Operands> make(int64_t batch, int64_t width, int64_t time, int64_t taps, bool gradients) {
  const Shape signal{batch, width, time};
  auto o = std::make_shared<Operands>(
      Operands{randn(signal), randn({width, taps}), randn({width}), randn(signal), randn(signal), randn(signal)});
  for (Tensor* x : {&o->u, &o->h, &o->skip, &o->before, &o->after}) x->set_requires_grad(gradients);
  return o;
}

Tensor gated(const Operands& o) {
  return long_conv(o.u, o.h,
                   {.skip = o.skip, .gate_before = o.before, .gate_after = o.after, .algorithm = o.algorithm});
}

void forward_and_backward(const Operands& o) {
  backward(Tensors{gated(o)}, Tensors{o.dy});
  for (const Tensor* x : {&o.u, &o.h, &o.skip, &o.before, &o.after}) x->set_grad({});
}

// Two real transforms per signal row and one per filter row, 2T long, at 2.5 n log2 n; six per complex product.
double forward_flops(int64_t batch, int64_t width, int64_t time) {
  const auto b = static_cast<double>(batch), d = static_cast<double>(width), t = static_cast<double>(time), n = 2 * t;
  return (2 * b * d + d) * 2.5 * n * std::log2(n) + b * d * 6 * (t + 1) + 3 * b * d * t;
}

const Cases conv_cases([] {
  std::vector<Case> cases;
  const int64_t shapes[][3] = {{1, 64, 8192}, {8, 256, 1024}, {4, 256, 2048}, {1, 256, 16384}, {1, 64, 131072}};
  for (const auto& [batch, width, time] : shapes) {
    const std::string shape = fmt::format("B{}D{}L{}", batch, width, time);
    const double flops = forward_flops(batch, width, time);
    cases.push_back({"conv.fwd." + shape,
                     [b = batch, d = width, t = time] { return [o = make(b, d, t, t, false)] { gated(*o); }; }, flops});
    cases.push_back(
        {"conv.fwdbwd." + shape,
         [b = batch, d = width, t = time] { return [o = make(b, d, t, t, true)] { forward_and_backward(*o); }; },
         2 * flops});
  }
  return cases;
});

// One length against another: conv_dyadic.fwd.B1D64L4096K64. Direct sums over more taps take seconds.
const Cases algorithm_cases([] {
  std::vector<Case> cases;
  for (const int64_t time : {1024, 4096, 16384, 65536}) {
    for (const int64_t taps : std::set<int64_t>{32, 128, 512, time}) {
      for (const ConvAlgorithm algorithm : {ConvAlgorithm::fft, ConvAlgorithm::dyadic, ConvAlgorithm::direct}) {
        if (algorithm == ConvAlgorithm::direct && taps > 4096) continue;
        const auto operands = [=](bool gradients) {
          auto o = make(1, 64, time, taps, gradients);
          o->algorithm = algorithm;
          return o;
        };
        const std::string shape = fmt::format("B1D64L{}K{}", time, taps), name = name_of(algorithm);
        cases.push_back({"conv_" + name + ".fwd." + shape, [=] { return [o = operands(false)] { gated(*o); }; }});
        cases.push_back(
            {"conv_" + name + ".fwdbwd." + shape, [=] { return [o = operands(true)] { forward_and_backward(*o); }; }});
      }
    }
  }
  return cases;
});

}  // namespace
}  // namespace mahia::perf
