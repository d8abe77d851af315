// SPDX-License-Identifier: Apache-2.0
// Where pairs go: nothing is lost uncounted, no expert is overfull; rounding to tiles; a shared expert for what
// overflows.
#include "nn/placement.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "nn/sparse_moe.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/compare.hpp"
#include "ops/index.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "ops/softmax.hpp"
#include "ops/sort.hpp"
#include "tests/support/moe_reference.hpp"
#include "tests/support/numeric_gradient.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::nn {
namespace {

using tests::check_close;
using tests::check_gradients;
using tests::check_throws;
using tests::to_array;

Tensor random(const Shape& shape, uint16_t call, DType dtype = DType::f64) {
  return randn(shape, {random_key("tests", "placement"), call}, dtype);
}

Tensor mask_of(const std::vector<bool>& valid) {
  return gt(Tensor::from(std::vector<float>(valid.begin(), valid.end()), {std::ssize(valid)}), 0);
}

// Routers by (E, k), made once.
const Router& router_of(int64_t experts, int64_t k) {
  static std::map<std::pair<int64_t, int64_t>, std::unique_ptr<Router>> made;
  std::unique_ptr<Router>& router = made[{experts, k}];
  if (!router) router = std::make_unique<Router>(RouterConfig{.width = 1, .num_experts = experts, .top_k = k});
  return *router;
}

// A batch of random choices with many ties. Some are one-sided, some hold padding, in some the last expert is closed.
struct RandomBatch {
  int64_t tokens, experts, k, there = 0;
  Routing routing;
  std::vector<bool> valid;
  bool padded;
  CapacityConfig capacity;

  explicit RandomBatch(std::mt19937& generator) {
    const auto draw = [&](int64_t low, int64_t high) {
      return std::uniform_int_distribution<int64_t>(low, high)(generator);
    };
    tokens = draw(0, 9);
    experts = draw(1, 6);
    k = draw(1, experts);
    padded = draw(0, 2) == 0;
    const bool one_sided = draw(0, 7) == 0, closes = k < experts && draw(0, 3) == 0;
    std::vector<float> z, s;
    for (int64_t t = 0; t < tokens; ++t) {
      valid.push_back(!padded || draw(0, 3) > 0);
      there += valid.back() ? 1 : 0;
      for (int64_t e = 0; e < experts; ++e) {
        z.push_back(static_cast<float>(one_sided ? -e : draw(-2, 2)));
        s.push_back(closes && e + 1 == experts ? -INFINITY : z.back());
      }
    }
    routing.logits = Tensor::from(z, {tokens, experts});
    routing.scores = Tensor::from(s, {tokens, experts});
    routing.probabilities = routing.values = softmax(routing.logits);
    routing.indices = topk(routing.scores, k).indices;
    routing.weights = gather(routing.values, 1, routing.indices);
    capacity.train_factor = std::array{0.1, 0.25, 0.5, 0.9, 1.0, 1.3, 2.0}[static_cast<size_t>(draw(0, 6))];
    capacity.minimum = draw(0, 3) == 0 ? 2 : 0;
    capacity.priority = static_cast<SlotPriority>(draw(0, 2));
    capacity.overflow = static_cast<Overflow>(draw(0, 4));
    if (draw(0, 5) > 0) return;
    capacity.train_factor = 0;
    capacity.tile = draw(0, 1) == 0 ? 0 : draw(1, 4);
  }
};

// The experts that serve token t, from the plan alone; empty when the plan contradicts itself.
std::vector<int64_t> served_by(const MoePlan& plan, const std::vector<int64_t>& places,
                               const std::vector<int64_t>& offsets, int64_t t) {
  std::vector<int64_t> experts;
  for (int64_t j = 0; j < plan.choices; ++j) {
    const int64_t place = places[static_cast<size_t>(t * plan.choices + j)];
    if (place < 0) continue;
    experts.push_back(std::ranges::upper_bound(offsets, place) - offsets.begin() - 1);
  }
  return experts;
}

// What is wrong with the placement of a batch; empty: nothing.
std::string wrong_with(const RandomBatch& b, const Placement& p) {
  const PairTally t = tally_of(p.counts, p.plan.counts, p.fates, b.capacity.overflow);
  if (!t.conserved()) return "the law is broken";
  if (t.routed != b.k * b.there) return "not every pair is routed";
  const std::vector<int64_t> kept = p.plan.counts.to_vector<int64_t>();
  const int64_t slots = b.capacity.train_factor == 0
                            ? b.tokens
                            : expert_capacity(b.capacity.train_factor, b.capacity.minimum, b.k, b.tokens, b.experts);
  if (std::ranges::any_of(kept, [&](int64_t n) { return n > slots; })) return "an expert is overfull";
  const std::vector<int64_t> places = to(p.plan.place, DType::i64).to_vector<int64_t>();
  const std::vector<int64_t> offsets = to(p.plan.offsets, DType::i64).to_vector<int64_t>();
  const std::vector<double> weights = to_array(p.weights).values, lost = p.fates.lost.defined()
                                                                             ? to_array(p.fates.lost).values
                                                                             : std::vector<double>(weights.size());
  std::vector<int64_t> served(kept.size());
  std::set<int64_t> used;
  for (int64_t token = 0; token < b.tokens; ++token) {
    const std::vector<int64_t> by = served_by(p.plan, places, offsets, token);
    if (std::set<int64_t>(by.begin(), by.end()).size() != by.size()) return "a token uses an expert twice";
    if (!b.valid[static_cast<size_t>(token)] && !by.empty()) return "padding is served";
    for (const int64_t e : by) ++served[static_cast<size_t>(e)];
    double missing = 0;
    for (int64_t j = 0; j < b.k; ++j) missing += lost[static_cast<size_t>(token * b.k + j)];
    const bool silent = by.empty() && b.valid[static_cast<size_t>(token)] && missing != static_cast<double>(b.k);
    if (silent && b.capacity.tile == 0) return "a token is zeroed and not counted";
  }
  for (const int64_t place : places) {
    if (place >= 0 && !used.insert(place).second) return "a place is taken twice";
  }
  if (served != kept) return "counts and places disagree";
  if (std::ranges::any_of(weights, [](double g) { return !(g >= 0 && g <= 1.000001); })) return "a weight is no share";
  return "";
}

BOOST_AUTO_TEST_SUITE(placement)

BOOST_AUTO_TEST_CASE(no_pair_is_lost_and_no_expert_overfull_in_100000_random_batches) {
  std::mt19937 generator(11);
  const NoGrad no_grad;
  std::map<std::string, int> problems;
  std::map<int, int64_t> lost;
  int64_t rerouted = 0, added = 0, hops = 0, hops_over = -9;  // hops_over: hops beyond E
  for (int i = 0; i < 100000; ++i) {
    const RandomBatch b(generator);
    const Placement p = place(router_of(b.experts, b.k), b.routing, b.padded ? mask_of(b.valid) : Tensor(), b.capacity);
    const std::string problem = wrong_with(b, p);
    if (!problem.empty()) ++problems[problem];
    const PairTally t = tally_of(p.counts, p.plan.counts, p.fates, b.capacity.overflow);
    const int policy = static_cast<int>(b.capacity.overflow);
    lost[policy] += t.dropped + t.without_room + t.shared + t.residual;
    hops = std::max(hops, t.longest_hop);
    hops_over = std::max(hops_over, t.longest_hop - b.experts);
    rerouted += t.rerouted;
    added += t.added;
  }
  for (const auto& [problem, times] : problems) BOOST_ERROR(problem << ", " << times << " times");
  // The cases reach what they are about.
  for (const auto& [policy, n] : lost) BOOST_TEST(n > 1000, "policy " << policy << ": " << n);
  BOOST_TEST(rerouted > 4000);
  BOOST_TEST(hops >= 3);
  BOOST_TEST(added > 1000);
  BOOST_TEST(hops_over < 0);  // less than E rounds
}

BOOST_AUTO_TEST_CASE(rounding_to_tiles_changes_less_than_one_tile_and_equals_plain_loops) {
  const Tensor x = random({45, 6}, 0) + 0.3;
  std::vector<bool> valid(45, true);
  for (size_t t = 30; t < 41; ++t) valid[t] = false;
  const NoGrad no_grad;
  for (const int64_t tile : {1, 2, 7, 16, 64, 1000}) {
    for (const int64_t k : {1, 2, 5}) {
      for (const bool padded : {false, true}) {
        MoeConfig c{.width = 6, .hidden = 10, .num_experts = 5, .top_k = k};
        c.capacity.tile = tile;
        SparseMoETopK moe(c);
        moe.to(DType::f64, {});
        BOOST_TEST_CONTEXT("tile " << tile << ", k " << k << ", padded " << padded) {
          tests::MoeCase given{c};
          if (padded) given.valid = valid;
          const tests::MoeReference expected = tests::moe_reference(tests::State(moe), given, to_array(x));
          const MoeOutput out = moe(x, padded ? mask_of(valid) : Tensor());
          check_close(out.y, expected.y, {1e-10, 1e-12});
          BOOST_TEST((out.stats.kept.to_vector<int64_t>() == expected.kept));
          BOOST_TEST((out.stats.tally() == expected.tally));
          const std::vector<int64_t> n = out.stats.counts.to_vector<int64_t>();
          const auto dropped = static_cast<double>(expected.tally.dropped);  // whatever was added elsewhere
          BOOST_TEST(std::abs(out.stats.drop_rate() - dropped / static_cast<double>(expected.tally.routed)) < 1e-12);
          for (size_t e = 0; e < n.size(); ++e) {
            BOOST_TEST(2 * std::abs(expected.kept[e] - n[e]) <= tile);
            const bool whole = expected.kept[e] % tile == 0 || expected.kept[e] == (padded ? 34 : 45);
            BOOST_TEST(whole);
          }
          moe.eval();  // as chosen
          BOOST_TEST((moe(x).stats.kept.to_vector<int64_t>() == moe(x).stats.counts.to_vector<int64_t>()));
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(gradients_with_tiles_equal_central_differences) {
  MoeConfig c{.width = 6, .hidden = 10, .num_experts = 4, .top_k = 2};
  c.capacity.tile = 4;
  SparseMoETopK moe(c);
  moe.to(DType::f64, {});
  const Tensor x = random({11, 6}, 1).set_requires_grad(true), dy = random({11, 6}, 2);
  const auto loss = [&] { return sum(moe(x).y * dy); };
  backward(loss());
  NamedTensors leaves = moe.named_parameters();
  leaves.emplace_back("x", x);
  const NoGrad no_grad;
  BOOST_TEST(moe(x).stats.tally().added > 0);
  BOOST_TEST(moe(x).stats.tally().dropped > 0);
  check_gradients(leaves, loss);
}

BOOST_AUTO_TEST_CASE(the_router_learns_about_the_expert_that_a_pair_was_rerouted_to) {
  // Two tokens want expert 0, which has room for one; k = 1, so the weight is p of the expert really used.
  MoeConfig c{.width = 2, .hidden = 4, .num_experts = 3, .top_k = 1};
  c.capacity = {.train_factor = 1, .overflow = Overflow::reroute};
  SparseMoETopK moe(c);
  {
    const NoGrad no_grad;
    copy_into(Tensor::from({3.0f, 0.0f, 1.0f, 0.0f, 0.0f, 0.0f}, {3, 2}), moe.parameters()[0]);
  }
  const Tensor x = ones({2, 2});
  const MoeOutput out = moe(x);
  BOOST_TEST((out.stats.kept.to_vector<int64_t>() == std::vector<int64_t>{1, 1, 0}));
  BOOST_TEST((out.stats.fates.hops.to_vector<int64_t>() == std::vector<int64_t>{0, 1}));
  BOOST_TEST(out.stats.capacity_use() == 2.0 / 3);
  backward(sum(contiguous(select(out.y, 0, 1))));  // of token 1 alone
  const Tensor unused = select(moe.named_parameters()[1].second.grad(), 0, 2);
  BOOST_TEST(amax(abs(unused)).item<float>() == 0.0f);
  BOOST_TEST(amax(abs(select(moe.named_parameters()[1].second.grad(), 0, 0))).item<float>() == 0.0f);
  BOOST_TEST(amax(abs(select(moe.named_parameters()[1].second.grad(), 0, 1))).item<float>() > 0.0f);
  // The gradient of p_1 by the logits is p_1 ((0, 1, 0) - p); p_0's would have other ratios.
  const std::vector<float> g = moe.named_parameters()[0].second.grad().to_vector<float>();  // (3, 2)
  const double total = std::exp(3.0) + std::exp(1.0) + 1, others = (std::exp(3.0) + 1) / total;
  BOOST_TEST(g[0] / g[2] == -std::exp(3.0) / total / others, boost::test_tools::tolerance(1e-4));
  BOOST_TEST(g[4] / g[2] == -1 / total / others, boost::test_tools::tolerance(1e-4));
}

BOOST_AUTO_TEST_CASE(the_shared_expert_sees_the_overflow_alone) {
  MoeConfig c{.width = 6, .hidden = 10, .num_experts = 4, .top_k = 2, .bias = true};
  c.capacity = {.train_factor = 0.5, .overflow = Overflow::shared};
  SparseMoETopK moe(c);
  BOOST_TEST(moe.state_dict().back().first == "overflow.b_down");
  const auto largest_grad = [&](double factor_for_all) {
    CapacityConfig capacity = c.capacity;
    capacity.train_factor = factor_for_all;
    SparseMoETopK other([&] {
      MoeConfig changed = c;
      changed.capacity = capacity;
      return changed;
    }());
    backward(sum(other(random({20, 6}, 3, DType::f32)).y));
    float largest = 0;
    for (const auto& [name, p] : other.named_parameters()) {
      if (name.starts_with("overflow.")) largest = std::max(largest, amax(abs(p.grad())).item<float>());
    }
    return largest;
  };
  BOOST_TEST(largest_grad(0.5) > 0.0f);
  BOOST_TEST(largest_grad(1000) == 0.0f);
}

BOOST_AUTO_TEST_CASE(capacities_that_contradict_each_other_are_refused) {
  MoeConfig c{.width = 6, .hidden = 10, .num_experts = 4, .top_k = 2};
  c.capacity.tile = -1;
  check_throws<ValueError>([&] { SparseMoETopK moe(c); }, "SparseMoETopK: the tile is -1, must not be negative");
  c.capacity = {.train_factor = 1.25, .tile = 128};
  check_throws<ValueError>(
      [&] { SparseMoETopK moe(c); },
      "SparseMoETopK: rounding to tiles of 128 needs training without a capacity, got the factor 1.25");
  c.capacity = {.tile = 128};
  for (const RouterOptions& routing :
       {RouterOptions{.groups = 2, .kept_groups = 1}, RouterOptions{.select_bias = true}}) {
    c.routing = routing;
    check_throws<ValueError>([&] { SparseMoETopK moe(c); }, "knows neither closed groups nor a selection bias");
  }
}

BOOST_AUTO_TEST_CASE(statistics_leave_padding_out) {
  SparseMoETopK moe({.width = 6, .hidden = 10, .num_experts = 4, .top_k = 2});
  const Tensor x = random({7, 6}, 1, DType::f32), there = lt(Tensor::from({0, 9, 0, 0, 9, 9, 0}, {7}), 5);
  const MoeStats all = moe(x, there).stats;
  const MoeStats few =
      moe(index_select(x, 0, Tensor::from({int64_t{0}, int64_t{2}, int64_t{3}, int64_t{6}}, {4}))).stats;
  BOOST_TEST(all.tokens() == 4);
  BOOST_TEST(all.mean_top1() == few.mean_top1(), boost::test_tools::tolerance(1e-6));
  BOOST_TEST(all.near_tie_share(0.05) == few.near_tie_share(0.05));
  BOOST_TEST(moe(x).stats.mean_top1() != all.mean_top1());
  BOOST_TEST(moe(x, lt(ones({7}), 0)).stats.mean_top1() == 0.0);
}

BOOST_AUTO_TEST_CASE(a_sinkhorn_router_takes_no_mask_in_training) {
  SparseMoETopK moe(
      {.width = 6, .hidden = 10, .num_experts = 4, .top_k = 2, .router = RouterKind::sinkhorn, .causal = false});
  const Tensor x = ones({3, 6}), mask = gt(ones({3}), 0);
  check_throws<ValueError>([&] { moe(x, mask); }, "takes no mask in training");
  moe.eval();
  BOOST_TEST(moe(x, mask).y.size(0) == 3);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
