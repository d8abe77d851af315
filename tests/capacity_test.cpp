// SPDX-License-Identifier: Apache-2.0
// Capacity, slot priorities, overflow and padding of the mixture of experts.
#include "nn/capacity.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <numeric>
#include <random>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "nn/sparse_moe.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/compare.hpp"
#include "ops/linear.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/moe_reference.hpp"
#include "tests/support/numeric_gradient.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::nn {
namespace {

using tests::Array;
using tests::check_close;
using tests::check_gradients;
using tests::check_same_bits;
using tests::check_throws;
using tests::kept_of;
using tests::service_order;
using tests::to_array;

constexpr SlotPriority priorities[] = {SlotPriority::position, SlotPriority::choice_major, SlotPriority::probability};
constexpr Overflow overflows[] = {Overflow::drop, Overflow::drop_renormalise, Overflow::residual, Overflow::shared,
                                  Overflow::reroute};

Tensor random(const Shape& shape, uint16_t call, DType dtype = DType::f64) {
  return randn(shape, {random_key("tests", "capacity"), call}, dtype);
}

MoeConfig config(Overflow overflow, SlotPriority priority = SlotPriority::position, double factor = 0.5) {
  MoeConfig c{.width = 6, .hidden = 10, .num_experts = 4, .top_k = 3};
  c.capacity = {.train_factor = factor, .eval_factor = factor, .priority = priority, .overflow = overflow};
  return c;
}

BOOST_AUTO_TEST_SUITE(capacity)

BOOST_AUTO_TEST_CASE(the_number_of_slots_is_exact) {
  BOOST_TEST(expert_capacity(1.1, 0, 1, 10, 1) == 11);  // 1.1 * 10 is 11.000000000000002
  BOOST_TEST(expert_capacity(0.1, 0, 1, 30, 1) == 3);   // 0.1 * 30 is 3.0000000000000004
  BOOST_TEST(expert_capacity(1.25, 0, 2, 128, 8) == 40);
  BOOST_TEST(expert_capacity(1, 0, 2, 33, 8) == 9);
  BOOST_TEST(expert_capacity(1, 0, 2, 32, 8) == 8);
  BOOST_TEST(expert_capacity(0.1, 4, 1, 30, 1) == 4);
  BOOST_TEST(expert_capacity(0.1, 0, 2, 0, 4) == 0);
  BOOST_TEST(expert_capacity(1e-6, 0, 1, 1, 1) == 1);
  BOOST_TEST(expert_capacity(1e6, 0, 3, 1000, 1) == 3000000000);
  BOOST_TEST(expert_capacity(0.1234567890123, 0, 1, 10000000000000, 1) == 1234567890123);
  BOOST_TEST(expert_capacity(0, 5, 2, 7, 4) == 14);  // no limit
  for (const double bad : {-1.0, 1e-7, 1e7, double{NAN}, double{INFINITY}}) {
    check_throws<ValueError>([&] { expert_capacity(bad, 0, 1, 1, 1); }, "expert_capacity: the factor is ");
    check_throws<ValueError>([&] { SparseMoETopK moe(config(Overflow::drop, SlotPriority::position, bad)); },
                             ", must be 0 or in [1e-6, 1e6]");
  }
  check_throws<ValueError>([] { expert_capacity(1, -1, 1, 1, 1); },
                           "expert_capacity: the minimum is -1, must not be negative");
}

BOOST_AUTO_TEST_CASE(pairs_are_conserved_and_served_by_priority_in_random_cases) {
  std::mt19937 generator(7);
  const auto draw = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(generator);
  };
  const NoGrad no_grad;
  int64_t wrong = 0, dropped = 0;
  for (int i = 0; i < 100000; ++i) {
    const int64_t tokens = draw(0, 7), experts = draw(1, 5), k = draw(1, experts), slots = draw(1, 4);
    const bool one_sided = draw(0, 7) == 0, padded = draw(0, 1) == 1;
    std::vector<int64_t> indices;
    std::vector<double> scores;
    for (int64_t t = 0; t < tokens; ++t) {
      const bool padding = padded && draw(0, 3) == 0;
      const int64_t first = one_sided ? 0 : draw(0, experts - 1);
      for (int64_t j = 0; j < k; ++j) {
        indices.push_back(padding ? no_expert : (first + j) % experts);
        scores.push_back(static_cast<double>(draw(0, 3)));  // with ties
      }
    }
    const SlotPriority priority = priorities[i % 3];
    const Admission a =
        admit(Tensor::from(indices, {tokens, k}), Tensor::from(scores, {tokens, k}), experts, slots, priority);
    const std::vector<bool> expected = kept_of(indices, service_order(scores, k, priority), experts, slots);
    const std::vector<double> kept = to_array(a.kept).values;
    std::vector<int64_t> n(static_cast<size_t>(experts)), served = n;
    int64_t lost = 0;
    for (size_t pair = 0; pair < indices.size(); ++pair) {
      wrong += (kept[pair] != 0) != expected[pair];
      if (indices[pair] < 0) continue;
      ++n[static_cast<size_t>(indices[pair])];
      (kept[pair] != 0 ? served[static_cast<size_t>(indices[pair])] : lost) += 1;
    }
    wrong += a.counts.to_vector<int64_t>() != n;
    for (size_t e = 0; e < n.size(); ++e) wrong += served[e] != std::min(n[e], slots);
    const int64_t all = std::accumulate(n.begin(), n.end(), int64_t{0});
    wrong += std::accumulate(served.begin(), served.end(), int64_t{0}) + lost != all;
    dropped += lost;
  }
  BOOST_TEST(wrong == 0);
  BOOST_TEST(dropped > 10000);
}

BOOST_AUTO_TEST_CASE(each_policy_gives_the_sum_that_it_promises) {
  const Tensor x = random({11, 6}, 0);
  const NoGrad no_grad;
  for (const Overflow overflow : overflows) {
    for (const SlotPriority priority : priorities) {
      for (const int64_t k : {1, 3, 4}) {
        for (const RouterKind router : {RouterKind::pre_softmax, RouterKind::post_softmax, RouterKind::sigmoid}) {
          MoeConfig c = config(overflow, priority);
          c.top_k = k;
          c.router = router;
          SparseMoETopK moe(c);
          moe.to(DType::f64, {});
          const int64_t slots = (5 * k * 11 + 39) / 40;  // ceil(0.5 * 11 k / 4)
          const tests::MoeReference expected = tests::moe_reference(tests::State(moe), {c, slots}, to_array(x));
          const MoeOutput out = moe(x);
          BOOST_TEST_CONTEXT("overflow " << static_cast<int>(overflow) << ", priority " << static_cast<int>(priority)
                                         << ", k " << k << ", router " << static_cast<int>(router)) {
            check_close(out.y, expected.y, {1e-10, 1e-12});
            BOOST_TEST((out.stats.counts.to_vector<int64_t>() == expected.counts));  // before any drop
            BOOST_TEST((out.stats.kept.to_vector<int64_t>() == expected.kept));
            BOOST_TEST(out.stats.capacity == slots);
            BOOST_TEST((out.stats.tally() == expected.tally));
            BOOST_TEST(out.stats.tally().conserved());
          }
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(gradients_of_each_policy_equal_central_differences) {
  const Tensor dy = random({2, 5, 6}, 2);
  for (const Overflow overflow : overflows) {
    for (const int64_t k : {1, 3}) {
      MoeConfig c = config(overflow);
      c.top_k = k;
      SparseMoETopK moe(c);
      moe.to(DType::f64, {});
      const Tensor x = random({2, 5, 6}, 1).set_requires_grad(true);
      const auto loss = [&] { return sum(moe(x).y * dy); };
      backward(loss());
      NamedTensors leaves = moe.named_parameters();
      leaves.emplace_back("x", x);
      const NoGrad no_grad;
      BOOST_TEST(moe(x).stats.drop_rate() > 0.1);
      check_gradients(leaves, loss);
    }
  }
}

BOOST_AUTO_TEST_CASE(slots_for_all_drop_nothing_and_change_no_bit) {
  const Tensor x = random({4, 9, 6}, 3, DType::f32);
  const NoGrad no_grad;
  SparseMoETopK dropless(config(Overflow::drop, SlotPriority::position, 0));
  const Tensor expected = dropless(x).y;
  for (const Overflow overflow : overflows) {
    SparseMoETopK moe(config(overflow, SlotPriority::probability, 1000));
    moe.load_state_dict(dropless.state_dict(), false);  // the shared expert's weights are its own
    const MoeOutput out = moe(x);
    BOOST_TEST(out.stats.drop_rate() == 0.0);
    BOOST_TEST(out.stats.tally().conserved());
    const bool adds_nothing = overflow == Overflow::residual || overflow == Overflow::shared;
    if (!adds_nothing) check_same_bits(out.y, expected);
    check_close(out.y, to_array(expected), {1e-6, 1e-7});
  }
}

BOOST_AUTO_TEST_CASE(training_and_evaluation_have_factors_of_their_own) {
  MoeConfig c = config(Overflow::drop);
  c.capacity.eval_factor = 0;
  SparseMoETopK moe(c);
  const NoGrad no_grad;
  const Tensor x = random({40, 6}, 4, DType::f32);
  BOOST_TEST(moe(x).stats.drop_rate() > 0.3);
  moe.eval();
  BOOST_TEST(moe(x).stats.drop_rate() == 0.0);
  BOOST_TEST(moe(x).stats.capacity == 0);
}

BOOST_AUTO_TEST_CASE(padding_takes_no_slot_and_gets_nothing) {
  const Tensor x = random({2, 6, 6}, 5, DType::f32);
  const Tensor mask =
      gt(Tensor::from({1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f}, {2, 6}), 0);
  const Tensor tokens = contiguous(narrow(reshape(x, {12, 6}), 0, 0, 8));
  const NoGrad no_grad;
  for (const double factor : {0.0, 1000.0}) {
    for (const Overflow overflow : overflows) {
      const SparseMoETopK moe(config(overflow, SlotPriority::position, factor));
      const MoeOutput padded = moe(x, mask), alone = moe(tokens);
      const Tensor y = reshape(padded.y, {12, 6});
      check_same_bits(contiguous(narrow(y, 0, 0, 8)), alone.y);
      check_same_bits(contiguous(narrow(y, 0, 8, 4)), zeros({4, 6}));
      check_same_bits(padded.stats.counts, alone.stats.counts);
      for (const AuxLoss kind : {AuxLoss::balance, AuxLoss::z_loss}) {
        BOOST_TEST(padded.losses[kind].item<float>() == alone.losses[kind].item<float>(),
                   boost::test_tools::tolerance(1e-6f));
      }
    }
  }
  const SparseMoETopK moe(config(Overflow::drop));
  check_throws<ShapeError>(
      [&] {
        moe(x, zeros({2, 5}, DType::boolean));
      },
      "SparseMoETopK: the mask must be a bool for each token of f32 [2, 6, 6] cpu:0, got bool [2, 5]");
}

BOOST_AUTO_TEST_CASE(degenerate_batches_work_with_a_capacity) {
  for (const Shape& shape : {Shape{0, 3, 6}, Shape{2, 0, 6}, Shape{1, 1, 6}}) {
    for (const SlotPriority priority : priorities) {
      SparseMoETopK moe(config(Overflow::residual, priority, 0.1));
      const Tensor x = random(shape, 6, DType::f32);
      const MoeOutput out = moe(x);
      BOOST_TEST((out.y.shape() == shape));
      backward(sum(out.y));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
