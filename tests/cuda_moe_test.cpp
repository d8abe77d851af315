// SPDX-License-Identifier: Apache-2.0
// What the CUDA backend promises about the mixture of experts; needs `mahia-tests -- --device cuda`. Values are in
// moe_grid.
#include <boost/test/unit_test.hpp>

#include "autograd/backward.hpp"
#include "core/copy.hpp"
#include "core/counters.hpp"
#include "core/factory.hpp"
#include "core/graph.hpp"
#include "nn/sparse_moe.hpp"
#include "ops/binary.hpp"
#include "ops/reduce.hpp"
#include "tests/support/device.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::nn {
namespace {

using tests::check_same_bits;
using tests::NeedsCuda;
using tests::tested_device;

struct Layer {
  std::string name;
  MoeConfig config;
};

// One of each router, capacity policy, priority and option.
std::vector<Layer> layers(int64_t experts) {
  std::vector<Layer> list;
  const auto add = [&](const std::string& name, auto&& change) {
    MoeConfig c{.width = 32, .hidden = 48, .num_experts = experts, .top_k = 2, .causal = false};
    change(c);
    list.push_back({name, c});
  };
  add("dropless", [](MoeConfig&) {});
  add("post_softmax", [](MoeConfig& c) { c.router = RouterKind::post_softmax; });
  add("sigmoid in groups", [](MoeConfig& c) {
    c.router = RouterKind::sigmoid;
    c.routing = {.select_bias = true, .groups = 2, .kept_groups = 1, .jitter = 0.1, .noisy = true};
  });
  add("sinkhorn", [](MoeConfig& c) { c.router = RouterKind::sinkhorn; });
  add("expert choice", [](MoeConfig& c) {
    c.router = RouterKind::expert_choice;
    c.capacity = {.train_factor = 1, .eval_factor = 1};
  });
  add("hash", [](MoeConfig& c) {
    c.router = RouterKind::hash;
    c.losses = {};
  });
  for (const int overflow : {0, 1, 2, 3, 4}) {
    for (const int priority : {0, 1, 2}) {
      add(message("overflow ", overflow, ", priority ", priority), [&](MoeConfig& c) {
        c.capacity.train_factor = 0.5;
        c.capacity.overflow = static_cast<Overflow>(overflow);
        c.capacity.priority = static_cast<SlotPriority>(priority);
      });
    }
  }
  add("tiles", [](MoeConfig& c) { c.capacity.tile = 16; });
  return list;
}

struct Step {
  explicit Step(const MoeConfig& c) : moe(c) { moe.to(tested_device()); }
  void operator()() {
    leaf.set_grad({});
    for (const Tensor& p : moe.parameters()) p.set_grad({});
    const MoeOutput out = moe(leaf, {}, ids);
    Tensor loss = sum(out.y * dy);
    if (out.losses[AuxLoss::balance].defined()) loss = loss + out.losses[AuxLoss::balance];
    backward(loss);
    results = {out.y, leaf.grad(), out.stats.counts, out.stats.kept};
    for (const Tensor& p : moe.parameters()) results.push_back(p.grad());
  }
  SparseMoETopK moe;
  Tensor leaf = randn({90, 32}, {1}, DType::f32, tested_device()).set_requires_grad(true);
  Tensor dy = randn({90, 32}, {2}, DType::f32, tested_device());
  Tensor ids = randint(0, 50, {90}, DType::i64, tested_device());
  Tensors results;
};

BOOST_AUTO_TEST_SUITE(cuda_moe)

BOOST_AUTO_TEST_CASE(as_many_kernels_are_launched_for_4_experts_as_for_64,
                     *boost::unit_test::precondition(NeedsCuda())) {
  const std::vector<Layer> few = layers(4), many = layers(64);
  for (size_t i = 0; i < few.size(); ++i) {
    const auto launches_of = [](const MoeConfig& c) {
      Step step(c);
      step();
      reset_counters();
      step();
      BOOST_TEST(counters().host_waits == 0);
      return counters().launches;
    };
    const int64_t here = launches_of(few[i].config), there = launches_of(many[i].config);
    BOOST_TEST(here == there, few[i].name << ": " << here << " launches for 4 experts, " << there << " for 64");
  }
}

BOOST_AUTO_TEST_CASE(a_recorded_step_has_the_bits_of_an_eager_one, *boost::unit_test::precondition(NeedsCuda())) {
  for (const Layer& layer : layers(8)) {
    BOOST_TEST_CONTEXT(layer.name) {
      Step eager(layer.config), recorded(layer.config);
      recorded.ids = eager.ids;
      recorded.moe.load_state_dict(eager.moe.state_dict());
      StepGraph graph(tested_device());
      for (int i = 0; i < 5; ++i) {
        set_random_counts({.step = random_step(), .calls = {}});
        graph.run([&] { recorded(); });
      }
      set_random_counts({.step = random_step(), .calls = {}});
      eager();
      for (size_t i = 0; i < eager.results.size(); ++i) check_same_bits(recorded.results[i], eager.results[i]);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
