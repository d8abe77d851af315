// SPDX-License-Identifier: Apache-2.0
// The mixture of experts against plain loops and finite differences in f64, and what it must mean.
#include "nn/sparse_moe.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <numeric>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/parallel.hpp"
#include "ops/binary.hpp"
#include "ops/index.hpp"
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
using tests::to_array;

Tensor random(const Shape& shape, uint16_t call, DType dtype = DType::f32) {
  return randn(shape, {random_key("tests", "sparse_moe"), call}, dtype);
}

struct GridCase {
  int64_t batch, time, width, experts, k;
};
MoeConfig config_of(const GridCase& g) {
  return {.width = g.width, .hidden = 24, .num_experts = g.experts, .top_k = g.k};
}

// sum(y * dy) + 0.3 aux + 0.1 z_loss: every output takes part.
Tensor loss_of(const MoeOutput& out, const Tensor& dy) {
  return sum(out.y * dy) + out.losses[AuxLoss::balance] * 0.3 + out.losses[AuxLoss::z_loss] * 0.1;
}

void check_against_reference(const MoeConfig& c, const Shape& shape, DType dtype) {
  SparseMoETopK moe(c);
  moe.to(dtype, {});
  const Tensor x = random(shape, 1, dtype);
  const MoeOutput out = moe(x);
  const tests::MoeReference expected = tests::moe_reference(tests::State(moe), {c}, to_array(x));
  const tests::Tolerance tolerance = tests::tolerance_of(dtype);
  BOOST_TEST((out.y.dtype() == dtype));
  check_close(out.y, expected.y, tolerance);
  BOOST_TEST((out.stats.counts.to_vector<int64_t>() == expected.counts));
  const int64_t pairs = std::accumulate(expected.counts.begin(), expected.counts.end(), int64_t{0});
  BOOST_TEST(pairs == numel(shape) / c.width * std::min(c.top_k, c.num_experts));
  BOOST_TEST(std::abs(out.losses[AuxLoss::balance].item<double>() - expected.switch_loss) <=
             2e-6 * expected.switch_loss);
  BOOST_TEST(std::abs(out.losses[AuxLoss::z_loss].item<double>() - expected.z_loss) <= 2e-6 * expected.z_loss);
}

BOOST_AUTO_TEST_SUITE(sparse_moe)

BOOST_AUTO_TEST_CASE(every_router_and_expert_equals_the_plain_loop) {
  for (const RouterKind router : {RouterKind::pre_softmax, RouterKind::post_softmax}) {
    for (const ExpertKind expert : {ExpertKind::gelu, ExpertKind::gelu_erf, ExpertKind::swiglu}) {
      for (const bool bias : {false, true}) {
        for (const std::optional<bool> renormalize : {std::optional<bool>(), std::optional<bool>(false)}) {
          BOOST_TEST_CONTEXT("router " << static_cast<int>(router) << ", expert " << static_cast<int>(expert)
                                       << ", bias " << bias << ", renormalize " << renormalize.value_or(true)) {
            const MoeConfig c{.width = 12,
                              .hidden = 20,
                              .num_experts = 5,
                              .top_k = 3,
                              .router = router,
                              .expert = expert,
                              .renormalize = renormalize,
                              .bias = bias};
            check_against_reference(c, {23, 12}, DType::f64);
          }
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(gradients_equal_central_differences) {
  for (const GridCase& g : {GridCase{2, 4, 32, 4, 2}, GridCase{4, 8, 64, 8, 3}, GridCase{1, 2, 16, 2, 1}}) {
    SparseMoETopK moe(config_of(g));
    moe.to(DType::f64, {});
    const Tensor x = random({g.batch, g.time, g.width}, 2, DType::f64).set_requires_grad(true);
    const Tensor dy = random(x.shape(), 3, DType::f64);
    backward(loss_of(moe(x), dy));
    NamedTensors leaves = moe.named_parameters();
    leaves.emplace_back("x", x);
    const NoGrad no_grad;
    check_gradients(
        leaves, [&] { return loss_of(moe(x), dy); }, 40);
  }
}

BOOST_AUTO_TEST_CASE(nothing_to_do_gives_zero_gradients) {
  for (const Shape& shape : {Shape{0, 3, 16}, Shape{2, 0, 16}, Shape{0, 16}}) {
    SparseMoETopK moe({.width = 16, .hidden = 8, .num_experts = 4, .top_k = 2});
    const MoeOutput out = moe(zeros(shape));
    BOOST_TEST((out.y.shape() == shape));
    BOOST_TEST(out.losses[AuxLoss::balance].item<float>() == 0.0f);
    backward(loss_of(out, zeros(shape)));
    for (const auto& [name, p] : moe.named_parameters()) check_same_bits(p.grad(), zeros_like(p));
  }
}

BOOST_AUTO_TEST_CASE(post_softmax_equals_pre_softmax_renormalised) {
  MoeConfig c{.width = 16, .hidden = 32, .num_experts = 8, .top_k = 3};
  SparseMoETopK first(c);
  c.router = RouterKind::post_softmax;
  SparseMoETopK second(c);
  const Tensor x = random({50, 16}, 4), dy = random({50, 16}, 5);
  for (SparseMoETopK* moe : {&first, &second}) backward(sum((*moe)(x).y * dy));
  check_close(first(x).y, to_array(second(x).y), {1e-5, 1e-6});
  const NamedTensors a = first.named_parameters(), b = second.named_parameters();
  for (size_t i = 0; i < a.size(); ++i) check_close(a[i].second.grad(), to_array(b[i].second.grad()), {1e-5, 1e-5});
}

BOOST_AUTO_TEST_CASE(permuting_the_experts_changes_nothing) {
  const MoeConfig c{.width = 16, .hidden = 32, .num_experts = 6, .top_k = 2, .router = RouterKind::post_softmax};
  SparseMoETopK moe(c), permuted(c);
  const Tensor order = Tensor::from({int64_t{4}, int64_t{2}, int64_t{0}, int64_t{5}, int64_t{1}, int64_t{3}}, {6});
  NamedTensors state = moe.state_dict();
  {
    const NoGrad no_grad;
    for (auto& [name, tensor] : state) tensor = index_select(tensor, 0, order);
    permuted.load_state_dict(state);
  }
  const Tensor x = random({40, 16}, 6);
  const MoeOutput a = moe(x), b = permuted(x);
  check_same_bits(a.y, b.y);
  check_same_bits(index_select(a.stats.counts, 0, order), b.stats.counts);
  BOOST_TEST(a.losses[AuxLoss::balance].item<float>() == b.losses[AuxLoss::balance].item<float>(),
             boost::test_tools::tolerance(1e-6f));
}

BOOST_AUTO_TEST_CASE(all_experts_with_equal_weights_are_the_mean_of_dense_ones) {
  SparseMoETopK moe({.width = 16, .hidden = 32, .num_experts = 4, .top_k = 4});
  const NoGrad no_grad;
  const NamedTensors state = moe.state_dict();
  fill(state[0].second, 0);  // the router's weight: all experts tie
  const Tensor x = random({30, 16}, 7);
  Tensor mean_of_dense = zeros({30, 16});
  for (int64_t e = 0; e < 4; ++e) {
    const Tensor h = gelu(linear(x, select(state[1].second, 0, e)), Approximate::tanh);
    mean_of_dense = mean_of_dense + linear(h, select(state[2].second, 0, e)) * 0.25;
  }
  check_close(moe(x).y, to_array(mean_of_dense), {1e-6, 1e-7});
}

BOOST_AUTO_TEST_CASE(an_expert_that_nobody_chooses_has_a_gradient_of_exactly_zero) {
  SparseMoETopK moe(
      {.width = 8, .hidden = 16, .num_experts = 4, .top_k = 2, .expert = ExpertKind::swiglu, .bias = true});
  {
    const NoGrad no_grad;
    fill(select(moe.state_dict()[0].second, 0, 2), -10);
  }
  const Tensor x = abs(random({25, 8}, 8));
  const MoeOutput out = moe(x);
  BOOST_TEST(out.stats.counts.to_vector<int64_t>()[2] == 0);
  backward(loss_of(out, random({25, 8}, 9)));
  for (const auto& [name, p] : moe.named_parameters()) {
    if (!name.starts_with("experts.")) continue;
    for (int64_t e = 0; e < 4; ++e) {
      const std::vector<float> grad = contiguous(select(p.grad(), 0, e)).to_vector<float>();
      const bool zero = std::ranges::all_of(grad, [](float g) { return g == 0; });
      BOOST_TEST(zero == (e == 2), name << " of expert " << e);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_token_has_the_same_bits_alone_and_in_any_batch) {
  for (const ExpertKind expert : {ExpertKind::gelu, ExpertKind::swiglu}) {
    SparseMoETopK moe({.width = 48, .hidden = 80, .num_experts = 8, .top_k = 2, .expert = expert, .bias = true});
    const NoGrad no_grad;
    const Tensor x = random({150, 48}, 10), y = moe(x).y;
    for (const auto& [first, length] : {std::pair<int64_t, int64_t>{0, 1}, {77, 1}, {149, 1}, {3, 8}, {60, 73}}) {
      check_same_bits(moe(contiguous(narrow(x, 0, first, length))).y, contiguous(narrow(y, 0, first, length)));
    }
  }
}

BOOST_AUTO_TEST_CASE(values_and_gradients_have_the_same_bits_for_any_thread_count) {
  const int before = num_threads();
  Tensors first;
  for (const int threads : {1, 2, 3, 7}) {
    set_num_threads(threads);
    SparseMoETopK moe(
        {.width = 64, .hidden = 96, .num_experts = 8, .top_k = 2, .expert = ExpertKind::swiglu, .bias = true});
    const Tensor x = random({4, 180, 64}, 11).set_requires_grad(true);
    const MoeOutput out = moe(x);
    backward(loss_of(out, random(x.shape(), 12)));
    Tensors bits = {out.y, out.losses[AuxLoss::balance], out.losses[AuxLoss::z_loss], x.grad()};
    for (const Tensor& p : moe.parameters()) bits.push_back(p.grad());
    if (first.empty()) first = bits;
    for (size_t i = 0; i < bits.size(); ++i) check_same_bits(bits[i], first[i]);
  }
  set_num_threads(before);
}

BOOST_AUTO_TEST_CASE(bf16_experts_are_routed_in_f32) {
  SparseMoETopK moe({.width = 32, .hidden = 64, .num_experts = 8, .top_k = 2});
  const Tensor x = copy_to(random({60, 32}, 13), cpu_device, DType::bf16);
  const NoGrad no_grad;
  const Tensor wide = copy_to(x, cpu_device, DType::f32);
  const MoeOutput expected = moe(wide);
  moe.to(DType::bf16, [](const std::string& name) { return name == "router.weight"; });
  const MoeOutput out = moe(x);
  BOOST_TEST((out.y.dtype() == DType::bf16));
  check_same_bits(out.stats.probabilities, expected.stats.probabilities);
  check_close(out.y, to_array(expected.y), tests::tolerance_of(DType::bf16));
}

// A published implementation divides (B, E, D) by counts of shape (B, 1, E), which broadcasts where D == E.
BOOST_AUTO_TEST_CASE(counts_cannot_be_broadcast_against_the_width) {
  check_throws<ShapeError>(
      [] {
        ones({2, 4, 8}) / ones({2, 1, 4});
      },
      "div: shapes [2, 4, 8] and [2, 1, 4] do not broadcast");
  const Tensor square = full({4, 4}, 0.25);
  for (const Shape& shape : {Shape{2, 1, 4}, Shape{1, 4}, Shape{}}) {
    const Tensor counts = ones(shape, DType::i64);
    check_throws<ShapeError>([&] { switch_loss(counts, square); },
                             message("switch_loss: counts (E) and probabilities (N, E) disagree: counts ", counts,
                                     ", probabilities ", square));
  }
  const MoePlan plan = moe_plan(zeros({4, 1}, DType::i64), 4);
  check_throws<ShapeError>(
      [&] {
        moe_combine(ones({4, 4}), ones({1, 4}), plan);
      },
      "moe_combine: rows (R, D), weights (N, k) and the plan's 4 rows of 4 tokens with 1 choices disagree: rows f32 "
      "[4, 4] cpu:0, weights f32 [1, 4] cpu:0");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
