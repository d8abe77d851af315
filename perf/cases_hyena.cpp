// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/factory.hpp"
#include "core/runtime.hpp"
#include "nn/hyena.hpp"
#include "ops/conv1d.hpp"
#include "ops/hyena_conv.hpp"
#include "ops/shape.hpp"
#include "perf/harness.hpp"

namespace mahia::perf {
namespace {

constexpr int64_t shapes[][3] = {{8, 128, 512}, {8, 256, 1024}, {4, 256, 2048}, {1, 256, 16384}, {1, 64, 131072}};

// Those of conv.fwdbwd, for a GPU.
constexpr Device gpu{DeviceType::cuda, 0};
constexpr int64_t gpu_shapes[][3] = {{64, 768, 1024}, {16, 768, 4096},  {8, 1024, 8192},  {4, 768, 16384},
                                     {2, 768, 32768}, {1, 768, 131072}, {1, 256, 1048576}};

// One order of the recurrence, from the projection z (3 D, B, T) on.
struct Recurrence {
  Recurrence(int64_t batch, int64_t width, int64_t time, DType dtype, Device device, bool gradients)
      : z(randn({3 * width, batch, time}, dtype, device)),
        dy(randn({batch, width, time}, dtype, device)),
        weight(randn({3 * width, 3}, DType::f32, device)),
        bias(randn({3 * width}, DType::f32, device)),
        h(randn({width, time}, DType::f32, device)),
        skip(randn({width}, DType::f32, device)) {
    for (Tensor* x : operands()) x->set_requires_grad(gradients);
  }

  Tensor fused() const {
    const Tensors x = chunk(z, 3, 0), w = chunk(weight, 3, 0), b = chunk(bias, 3, 0);
    const auto part = [&](size_t i) { return ShortFiltered{transpose(x[i], 0, 1), w[i], b[i]}; };
    return hyena_conv(part(2), h, {.skip = skip, .gate_before = part(1), .gate_after = part(0)});
  }

  Tensor composed() const {
    const Conv1dOptions causal{.padding = Padding::causal, .groups = z.size(0)};
    const Tensors x = chunk(transpose(conv1d(transpose(z, 0, 1), unsqueeze(weight, 1), bias, causal), 0, 1), 3, 0);
    const auto part = [&](size_t i) { return transpose(x[i], 0, 1); };
    return long_conv(part(2), h, {.skip = skip, .gate_before = part(1), .gate_after = part(0)});
  }

  void backward_of(const Tensor& y) {
    backward(Tensors{y}, Tensors{dy});
    for (Tensor* x : operands()) x->set_grad({});
  }

  std::vector<Tensor*> operands() { return {&z, &weight, &bias, &h, &skip}; }

  Tensor z, dy, weight, bias, h, skip;
};

struct Operator {
  Operator(int64_t batch, int64_t width, int64_t time)
      : op({.width = width, .l_max = time}),
        u(randn({batch, time, width}).set_requires_grad(true)),
        dy(randn({batch, time, width})) {}
  void forward_and_backward() {
    backward(Tensors{op(u)}, Tensors{dy});
    for (const Tensor& p : op.parameters()) p.set_grad({});
    u.set_grad({});
  }
  nn::HyenaOperator op;
  Tensor u, dy;
};

void add_recurrence(std::vector<Case>& cases, const int64_t (&shape)[3], Device device) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const bool is_fused : {true, false}) {
      const auto make = [=, b = shape[0], d = shape[1], t = shape[2]](bool gradients) {
        return std::make_shared<Recurrence>(b, d, t, dtype, device, gradients);
      };
      const auto run = [=](const Recurrence& r) { return is_fused ? r.fused() : r.composed(); };
      const auto add = [&](const char* pass, const std::function<std::function<void()>()>& prepare) {
        cases.push_back({.name = fmt::format("recurrence_{}.{}.{}.B{}D{}L{}", is_fused ? "fused" : "composed", pass,
                                             name_of(dtype), shape[0], shape[1], shape[2]),
                         .prepare = prepare,
                         .device = device});
      };
      add("fwd", [=] { return [=, r = make(false)] { run(*r); }; });
      add("fwdbwd", [=] { return [=, r = make(true)] { r->backward_of(run(*r)); }; });
    }
  }
}

// fused and composed give the same bits; docs/hyena.md, "Short filters as signals are read", compares them.
const Cases recurrence_cases([] {
  std::vector<Case> cases;
  for (const auto& shape : shapes) add_recurrence(cases, shape, cpu_device);
  if (device_count(DeviceType::cuda) == 0) return cases;
  for (const auto& shape : gpu_shapes) add_recurrence(cases, shape, gpu);
  return cases;
});

// The whole operator with its projections and the network of its filter.
const Cases operator_cases([] {
  std::vector<Case> cases;
  for (const auto& [batch, width, time] : shapes) {
    const std::string shape = fmt::format("B{}D{}L{}", batch, width, time);
    const auto make = [b = batch, d = width, t = time] { return std::make_shared<Operator>(b, d, t); };
    cases.push_back({"hyena.fwd." + shape, [=] {
                       return [o = make()] {
                         const NoGrad no_grad;
                         o->op(o->u);
                       };
                     }});
    cases.push_back({"hyena.fwdbwd." + shape, [=] { return [o = make()] { o->forward_and_backward(); }; }});
  }
  return cases;
});

}  // namespace
}  // namespace mahia::perf
