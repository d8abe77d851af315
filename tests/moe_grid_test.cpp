// SPDX-License-Identifier: Apache-2.0
// The mixture of experts over a grid of sizes, capacities, policies and routers, on values: against plain loops in f64,
// on the tested device. Gradients on a GPU against those of the CPU, which are checked by differences elsewhere.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/counters.hpp"
#include "core/factory.hpp"
#include "core/parallel.hpp"
#include "nn/sparse_moe.hpp"
#include "ops/binary.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/device.hpp"
#include "tests/support/moe_reference.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::nn {
namespace {

using tests::check_close;
using tests::check_same_bits;
using tests::check_throws;
using tests::on_tested_device;
using tests::tested_device;
using tests::to_array;

constexpr Overflow overflows[] = {Overflow::drop, Overflow::drop_renormalise, Overflow::residual, Overflow::shared,
                                  Overflow::reroute};

Tensor random(const Shape& shape, uint16_t call, DType dtype = DType::f32) {
  return randn(shape, {random_key("tests", "moe_grid"), call}, dtype);
}

struct Size {
  int64_t batch, time, width, experts, k;
};
const Size grid[] = {{2, 8, 32, 4, 2}, {4, 16, 64, 8, 3}, {8, 32, 128, 16, 4}, {1, 4, 16, 2, 1}, {8, 16, 32, 4, 2},
                     {2, 8, 16, 4, 1}, {2, 8, 16, 4, 4},  {2, 8, 16, 4, 7},    {2, 5, 8, 1, 1},  {2, 5, 8, 2, 2},
                     {2, 5, 8, 8, 2},  {2, 5, 16, 16, 2}, {3, 5, 32, 32, 5},   {3, 1, 16, 4, 2}, {3, 0, 16, 4, 2},
                     {0, 5, 16, 4, 2}, {1, 1, 1, 1, 1},   {2, 6, 4, 4, 2},     {2, 6, 1, 1, 1},  {1, 1, 8, 8, 8}};

MoeConfig config_of(const Size& s) {
  return {.width = s.width,
          .hidden = 24,
          .num_experts = s.experts,
          .top_k = s.k,
          .losses = {AuxLoss::balance, AuxLoss::z_loss}};
}

// ceil(tenths / 10 k N / E)
int64_t slots_of(int64_t tenths, const Size& s) {
  const int64_t pairs = std::min(s.k, s.experts) * s.batch * s.time;
  return (tenths * pairs + 10 * s.experts - 1) / (10 * s.experts);
}

void check_layer(const MoeConfig& c, const Size& s, int64_t capacity, DType dtype) {
  SparseMoETopK moe(c);
  moe.to(dtype, {});
  const Tensor x = random({s.batch, s.time, s.width}, 1, dtype);
  const tests::MoeReference expected = tests::moe_reference(tests::State(moe), {c, capacity}, to_array(x));
  moe.to(tested_device());
  const MoeOutput out = moe(on_tested_device(x));
  BOOST_TEST((out.y.dtype() == dtype));
  check_close(out.y, expected.y, tests::tolerance_of(dtype));
  BOOST_TEST((out.stats.counts.to_vector<int64_t>() == expected.counts));
  BOOST_TEST((out.stats.kept.to_vector<int64_t>() == expected.kept));
  BOOST_TEST((out.stats.tally() == expected.tally));
  BOOST_TEST(out.stats.tally().conserved());
  BOOST_TEST(out.stats.tally().routed == std::min(s.k, s.experts) * s.batch * s.time);
  const auto near = [](double value, double reference) { return std::abs(value - reference) <= 2e-6 * reference; };
  BOOST_TEST(near(out.losses[AuxLoss::balance].item<double>(), expected.switch_loss));
  BOOST_TEST(near(out.losses[AuxLoss::z_loss].item<double>(), expected.z_loss));
  BOOST_TEST(!out.losses[AuxLoss::variance].defined());  // nobody asked
}

std::string name(const Size& s, DType dtype) {
  return message("B ", s.batch, ", T ", s.time, ", D ", s.width, ", E ", s.experts, ", k ", s.k, ", ", dtype);
}

// What a step computes: y, the losses and all gradients.
Tensors step_of(const SparseMoETopK& moe, const Tensor& x, const Tensor& dy) {
  const Tensor leaf = x.detach().set_requires_grad(true);
  for (const Tensor& p : moe.parameters()) p.set_grad({});
  const MoeOutput out = moe(leaf);
  const Tensor aux = out.losses[AuxLoss::balance] * 0.3 + out.losses[AuxLoss::z_loss] * 0.1;
  backward(sum(out.y * dy) + aux);
  Tensors all = {out.y, leaf.grad()};
  for (const Tensor& p : moe.parameters()) {
    if (p.grad().defined()) all.push_back(p.grad());  // without a capacity nothing reaches an overflow's expert
  }
  return all;
}

BOOST_AUTO_TEST_SUITE(moe_grid)

BOOST_AUTO_TEST_CASE(without_a_capacity_a_plain_loop_gives_the_same_values) {
  const NoGrad no_grad;
  for (const Size& s : grid) {
    for (const DType dtype : {DType::f64, DType::f32}) {
      BOOST_TEST_CONTEXT(name(s, dtype)) { check_layer(config_of(s), s, 0, dtype); }
    }
  }
}

BOOST_AUTO_TEST_CASE(with_a_capacity_a_plain_loop_gives_the_same_values) {
  const NoGrad no_grad;
  for (const Size& s : grid) {
    for (const int64_t tenths : {1, 10, 20}) {
      for (const Overflow overflow : overflows) {
        MoeConfig c = config_of(s);
        c.capacity = {.train_factor = static_cast<double>(tenths) / 10, .overflow = overflow};
        BOOST_TEST_CONTEXT(name(s, DType::f32)
                           << ", tenths " << tenths << ", overflow " << static_cast<int>(overflow)) {
          check_layer(c, s, slots_of(tenths, s), DType::f32);
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(every_priority_and_router_gives_the_values_of_a_plain_loop) {
  const NoGrad no_grad;
  for (const Size& s : {Size{2, 8, 32, 4, 2}, Size{4, 16, 64, 8, 3}, Size{3, 5, 32, 32, 5}}) {
    for (const SlotPriority priority : {SlotPriority::choice_major, SlotPriority::probability}) {
      for (const RouterKind router : {RouterKind::pre_softmax, RouterKind::post_softmax, RouterKind::sigmoid}) {
        for (const Overflow overflow : {Overflow::drop, Overflow::reroute}) {
          MoeConfig c = config_of(s);
          c.router = router;
          c.capacity = {.train_factor = 0.5, .priority = priority, .overflow = overflow};
          BOOST_TEST_CONTEXT(name(s, DType::f64) << ", priority " << static_cast<int>(priority) << ", router "
                                                 << static_cast<int>(router)) {
            check_layer(c, s, slots_of(5, s), DType::f64);
          }
        }
      }
    }
    MoeConfig c = config_of(s);
    c.capacity.tile = 8;
    BOOST_TEST_CONTEXT(name(s, DType::f64) << ", tiles of 8") { check_layer(c, s, 0, DType::f64); }
  }
}

BOOST_AUTO_TEST_CASE(gradients_there_are_those_of_the_cpu, *boost::unit_test::precondition(tests::NeedsCuda())) {
  for (const Size& s : {Size{2, 4, 32, 4, 2}, Size{4, 8, 64, 8, 3}, Size{1, 2, 16, 2, 1}}) {
    for (const int64_t tenths : {0, 5}) {
      for (const Overflow overflow : overflows) {
        MoeConfig c = config_of(s);
        c.capacity = {.train_factor = static_cast<double>(tenths) / 10, .overflow = overflow};
        SparseMoETopK moe(c);
        moe.to(DType::f64, {});
        const Tensor x = random({s.batch, s.time, s.width}, 2, DType::f64), dy = random(x.shape(), 3, DType::f64);
        const Tensors here = step_of(moe, x, dy);
        moe.to(tested_device());
        const Tensors there = step_of(moe, on_tested_device(x), on_tested_device(dy));
        BOOST_TEST_CONTEXT(name(s, DType::f64)
                           << ", tenths " << tenths << ", overflow " << static_cast<int>(overflow)) {
          for (size_t i = 0; i < here.size(); ++i) check_close(there[i], to_array(here[i]), {1e-6, 1e-9});
        }
      }
    }
  }
}

// A softmax of the chosen logits is the softmax of all, divided by its sum: a few roundings of each.
BOOST_AUTO_TEST_CASE(post_softmax_is_pre_softmax_renormalised_to_a_few_ulp) {
  const NoGrad no_grad;
  for (const int64_t k : {2, 3, 8}) {
    const RouterConfig c{.width = 16, .num_experts = 8, .top_k = k};
    RouterConfig post = c;
    post.kind = RouterKind::post_softmax;
    const Router first(c), second(post);
    const Tensor x = random({500, 16}, 4);
    const Routing a = first(x), b = second(x);
    check_same_bits(a.indices, b.indices);
    const std::vector<float> g = a.weights.to_vector<float>(), h = b.weights.to_vector<float>();
    float worst = 0;
    for (size_t i = 0; i < g.size(); ++i) {
      const float ulp = std::nextafter(std::max(g[i], h[i]), 2.0f) - std::max(g[i], h[i]);
      worst = std::max(worst, std::abs(g[i] - h[i]) / ulp);
    }
    BOOST_TEST(worst <= 8.0f, "k " << k << ": " << worst << " ulp");
  }
}

BOOST_AUTO_TEST_CASE(a_sequence_has_the_same_bits_alone_and_in_any_batch_with_every_router) {
  const tests::BatchInvariant scope;
  const NoGrad no_grad;
  const RouterOptions grouped{.select_bias = true, .groups = 4, .kept_groups = 2};
  for (const RouterKind router : {RouterKind::pre_softmax, RouterKind::post_softmax, RouterKind::sigmoid}) {
    for (const RouterOptions& options : {RouterOptions{}, grouped}) {
      SparseMoETopK moe(
          {.width = 48, .hidden = 80, .num_experts = 8, .top_k = 2, .router = router, .routing = options});
      moe.to(tested_device());
      moe.eval();
      const Tensor x = on_tested_device(random({7, 23, 48}, 5)), y = moe(x).y;
      for (const auto& [first, length] : {std::pair<int64_t, int64_t>{0, 1}, {3, 1}, {6, 1}, {2, 4}}) {
        check_same_bits(moe(contiguous(narrow(x, 0, first, length))).y, contiguous(narrow(y, 0, first, length)));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(every_policy_has_the_same_bits_for_any_thread_count) {
  const int before = num_threads();
  for (const Overflow overflow : overflows) {
    for (const int64_t tile : {0, 8}) {
      MoeConfig c{.width = 64, .hidden = 96, .num_experts = 8, .top_k = 2};
      c.capacity = {.train_factor = tile > 0 ? 0 : 0.7,
                    .priority = SlotPriority::probability,
                    .overflow = overflow,
                    .tile = tile};
      const SparseMoETopK moe(c);
      const Tensor x = random({4, 180, 64}, 8), dy = random(x.shape(), 9);
      Tensors first;
      for (const int threads : {1, 2, 3, 7}) {
        set_num_threads(threads);
        const Tensors bits = step_of(moe, x, dy);
        if (first.empty()) first = bits;
        for (size_t i = 0; i < bits.size(); ++i) check_same_bits(bits[i], first[i]);
      }
    }
  }
  set_num_threads(before);
}

// On a GPU its launches too, in cuda_moe.
BOOST_AUTO_TEST_CASE(as_many_kernels_are_called_for_4_experts_as_for_64) {
  for (const Overflow overflow : overflows) {
    for (const double factor : {0.0, 0.5}) {
      const auto calls_for = [&](int64_t experts) {
        MoeConfig c{.width = 16, .hidden = 24, .num_experts = experts, .top_k = 2, .expert = ExpertKind::swiglu};
        c.bias = true;
        c.capacity = {.train_factor = factor, .overflow = overflow};
        const SparseMoETopK moe(c);
        const Tensor x = random({40, 16}, 6), dy = random({40, 16}, 7);
        reset_counters();
        step_of(moe, x, dy);
        return counters().kernel_calls;
      };
      BOOST_TEST(calls_for(4) == calls_for(64));
      BOOST_TEST(calls_for(4) > 20);
    }
  }
}

// Counts of shape (B, 1, E) divide (B, E, D) silently where D == E or E == 1. No function here takes them.
BOOST_AUTO_TEST_CASE(counts_of_another_shape_are_refused_where_they_would_broadcast) {
  for (const int64_t experts : {1, 4}) {
    const Tensor p = full({experts, experts}, 1.0 / static_cast<double>(experts));  // as many tokens as experts
    const Tensor sequences = reshape(p, {1, experts, experts});
    const Shape shapes[] = {{1, 1, experts}, {1, experts}, {experts, 1}, {}};
    for (const Shape& shape : shapes) {
      const Tensor counts = ones(shape, DType::i64);
      check_throws<ShapeError>(
          [&] { switch_loss(counts, p); },
          message("switch_loss: counts (E) and probabilities (N, E) disagree: counts ", counts, ", probabilities ", p));
      if (shape == Shape{1, experts}) continue;
      check_throws<ShapeError>([&] { sequence_loss(counts, sequences); },
                               message("sequence_loss: counts (B, E) and probabilities (B, T, E) disagree: counts ",
                                       counts, ", probabilities ", sequences));
    }
    const Router router({.width = experts, .num_experts = experts, .options = {.select_bias = true}});
    check_throws<ShapeError>(
        [&] {
          router.update_select_bias(ones({1, 1, experts}));
        },
        message("Router: update_select_bias needs counts (", experts, "), got f32 [1, 1, ", experts, "] cpu:0"));
  }
  // Where D is another number than E, both shapes are named.
  check_throws<ShapeError>(
      [] {
        ones({2, 4, 8}) / ones({2, 1, 4});
      },
      "div: shapes [2, 4, 8] and [2, 1, 4] do not broadcast");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
