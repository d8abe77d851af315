// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>

#include "autograd/backward.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/graph.hpp"
#include "core/runtime.hpp"
#include "nn/models/hyena_moe_lm.hpp"
#include "ops/binary.hpp"
#include "ops/linear.hpp"
#include "ops/long_conv.hpp"
#include "ops/matmul.hpp"
#include "ops/pointwise.hpp"
#include "perf/harness.hpp"
#include "train/optimizer.hpp"
#include "train/precision.hpp"

namespace mahia::perf {
namespace {

constexpr Device gpu{DeviceType::cuda, 0};

using Work = std::function<void()>;

Tensor bf16(const Shape& shape, double scale = 1) {
  return copy_to(randn(shape, DType::f32, gpu) * scale, gpu, DType::bf16);
}

void clear_gradients(const Tensors& xs) {
  for (const Tensor& x : xs) x.set_grad({});
}

// What the card can do: a large copy, one large product.
Work copy_work() {
  const Tensor x = empty({int64_t{1} << 31}, DType::u8, gpu), y = empty_like(x);
  return [=] { kernels::copy(x, y.output_view()); };
}
Work gemm_work(DType dtype) {
  const Tensor x = randn({8192, 8192}, DType::f32, gpu), y = randn({8192, 8192}, DType::f32, gpu);
  return [a = copy_to(x, gpu, dtype), b = copy_to(y, gpu, dtype)] { matmul(a, b); };
}

struct ConvShape {
  int64_t batch, width, time, taps;
};

Work conv_work(DType dtype, const ConvShape& s, bool backwards, ConvAlgorithm algorithm = ConvAlgorithm::automatic) {
  const auto signal = [&] { return copy_to(randn({s.batch, s.width, s.time}, DType::f32, gpu), gpu, dtype); };
  const Tensor u = signal(), before = signal(), after = signal(), dy = signal();
  const Tensor h = randn({s.width, s.taps}, DType::f32, gpu), skip = randn({s.width}, DType::f32, gpu);
  const Tensors all = {u, h, skip, before, after};
  for (const Tensor& x : all) Tensor(x).set_requires_grad(backwards);
  return [=] {
    const Tensor y =
        long_conv(u, h, {.skip = skip, .gate_before = before, .gate_after = after, .algorithm = algorithm});
    if (!backwards) return;
    backward(Tensors{y}, Tensors{dy});
    clear_gradients(all);
  };
}

struct MoeShape {
  int64_t tokens, width, hidden, experts, k;
};

Work moe_work(const MoeShape& s) {
  const auto moe = std::make_shared<nn::SparseMoETopK>(
      nn::MoeConfig{.width = s.width, .hidden = s.hidden, .num_experts = s.experts, .top_k = s.k, .bias = false});
  train::to_bf16(*moe);
  moe->to(gpu);
  const Tensor x = bf16({s.tokens, s.width}).set_requires_grad(true), dy = bf16({s.tokens, s.width});
  Tensors wanted = moe->parameters();
  wanted.push_back(x);
  return [=, one = ones({}, DType::f32, gpu)] {
    const nn::MoeOutput out = (*moe)(x);
    backward({out.y, out.losses[nn::AuxLoss::balance]}, {dy, one});
    clear_gradients(wanted);
  };
}

// The same operations as two dense maps of all N k rows.
Work dense_work(const MoeShape& s) {
  const int64_t rows = s.tokens * s.k;
  const Tensor x = bf16({rows, s.width}).set_requires_grad(true), dy = bf16({rows, s.width});
  const Tensor up = bf16({s.hidden, s.width}, 0.03).set_requires_grad(true);
  const Tensor down = bf16({s.width, s.hidden}, 0.03).set_requires_grad(true);
  return [=] {
    backward({linear(gelu(linear(x, up), Approximate::tanh), down)}, {dy});
    clear_gradients({x, up, down});
  };
}

struct LmShape {
  const char* name;
  int64_t vocab, width, hidden, batch, time, layers;
};

// One training step: forward, backward, clipping, AdamW.
struct Training {
  Training(const LmShape& s, DType precision)
      : model({.vocab = s.vocab, .width = s.width, .layers = s.layers, .l_max = s.time, .hidden = s.hidden}),
        tokens(randint(0, s.vocab, {s.batch, s.time}, DType::i64, gpu)),
        targets(randint(0, s.vocab, {s.batch, s.time}, DType::i64, gpu)),
        state({.lr = {.peak = 3e-4}, .aux = {.balance = {.peak = 0.01 * static_cast<double>(s.layers)}}}, gpu) {
    if (precision == DType::bf16) train::to_bf16(model);
    model.to(gpu);
    optimizer = std::make_unique<train::AdamW>(model);
  }

  // As the trainer does it: recorded once, then replayed with new numbers.
  void step() {
    state.advance(optimizer->steps_done());
    const bool replayed = graph.run([this] {
      optimizer->zero_grad();
      const auto out = model.loss(tokens, targets);
      backward(out.loss + state.aux * out.aux);
      optimizer->clip_grad_norm(1.0);
      optimizer->step(state);
    });
    if (replayed) optimizer->count_step();
  }

  nn::models::HyenaMoeLM model;
  std::unique_ptr<train::AdamW> optimizer;
  Tensor tokens, targets;
  train::StepState state;
  StepGraph graph{gpu};
};

Work lm_work(const LmShape& s, bool invariant) {
  return [t = std::make_shared<Training>(s, DType::bf16), invariant] {
    use_batch_invariant(invariant);
    t->step();
    use_batch_invariant(false);
  };
}

void add_conv(std::vector<Case>& cases) {
  const int64_t shapes[][3] = {{64, 768, 1024}, {16, 768, 4096},  {8, 1024, 8192},  {4, 768, 16384},
                               {2, 768, 32768}, {1, 768, 131072}, {1, 256, 1048576}};
  for (const DType dtype : {DType::bf16, DType::f32}) {
    for (const auto& [batch, width, time] : shapes) {
      for (const bool backwards : {false, true}) {
        cases.push_back({.name = fmt::format("conv.{}.{}.B{}D{}L{}", backwards ? "fwdbwd" : "fwd",
                                             dtype == DType::bf16 ? "bf16" : "fp32", batch, width, time),
                         .prepare =
                             [=, b = batch, d = width, t = time] {
                               return conv_work(dtype, {b, d, t, t}, backwards);
                             },
                         .device = gpu});
      }
    }
  }
}

// Where direct sums over few taps take as long as a transform.
void add_few_taps(std::vector<Case>& cases) {
  for (const int64_t time : {32, 256, 2048, 16384, 131072}) {
    for (const int64_t taps : {8, 16, 32, 64, 128}) {
      if (taps > time) continue;
      for (const ConvAlgorithm algorithm : {ConvAlgorithm::fft, ConvAlgorithm::direct}) {
        const ConvShape shape{std::max<int64_t>(1, 32768 / time), 256, time, taps};
        cases.push_back(
            {.name = fmt::format("few.fwdbwd.bf16.B{}D256L{}K{}.{}", shape.batch, time, taps, name_of(algorithm)),
             .prepare = [=] { return conv_work(DType::bf16, shape, true, algorithm); },
             .device = gpu});
      }
    }
  }
}

void add_moe(std::vector<Case>& cases) {
  for (const MoeShape& s :
       {MoeShape{16384, 1024, 4096, 8, 2}, MoeShape{16384, 1024, 4096, 32, 2}, MoeShape{16384, 768, 2048, 64, 2},
        MoeShape{16384, 2048, 1024, 64, 8}, MoeShape{4096, 512, 1024, 16, 2}}) {
    const std::string shape = fmt::format("T{}D{}H{}E{}K{}", s.tokens, s.width, s.hidden, s.experts, s.k);
    const double flops = 12.0 * static_cast<double>(s.tokens * s.k * s.width * s.hidden);
    cases.push_back({"moe.fwdbwd." + shape, [s] { return moe_work(s); }, flops, 0, gpu});
    cases.push_back({"moe.densefloor." + shape, [s] { return dense_work(s); }, flops, 0, gpu});
  }
}

const Cases gpu_cases([] {
  std::vector<Case> cases;
  if (device_count(DeviceType::cuda) == 0) return cases;
  cases.push_back({.name = "ceil.copy_2GiB", .prepare = copy_work, .device = gpu});
  cases.push_back({"ceil.gemm8192_bf16", [] { return gemm_work(DType::bf16); }, 2.0 * 8192 * 8192 * 8192, 0, gpu});
  cases.push_back({"ceil.gemm8192_fp32", [] { return gemm_work(DType::f32); }, 2.0 * 8192 * 8192 * 8192, 0, gpu});
  add_conv(cases);
  add_few_taps(cases);
  add_moe(cases);
  for (const LmShape& s :
       {LmShape{"tiny", 256, 256, 512, 16, 1024, 4}, LmShape{"small", 50304, 768, 2048, 16, 2048, 12},
        LmShape{"long", 256, 768, 2048, 1, 32768, 12}}) {
    for (const bool invariant : {false, true}) {
      cases.push_back({.name = fmt::format("lm.step.{}{}", s.name, invariant ? ".batch_invariant" : ""),
                       .prepare = [s, invariant] { return lm_work(s, invariant); },
                       .tokens = static_cast<double>(s.batch * s.time),
                       .device = gpu});
    }
  }
  return cases;
});

}  // namespace
}  // namespace mahia::perf
