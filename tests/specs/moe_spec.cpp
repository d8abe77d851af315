// SPDX-License-Identifier: Apache-2.0
#include "ops/moe.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>

#include "autograd/backward.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/parallel.hpp"
#include "ops/binary.hpp"
#include "tests/support/device.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

// The pairs (token, choice) in expert order: all of expert 0 first, each expert's in the order of the pairs.
std::vector<int64_t> order_of(const Array& indices, int64_t experts) {
  std::vector<int64_t> order;
  for (int64_t e = 0; e < experts; ++e) {
    for (int64_t pair = 0; pair < indices.size(); ++pair) {
      if (static_cast<int64_t>(indices[pair]) == e) order.push_back(pair);
    }
  }
  order.resize(static_cast<size_t>(indices.size()), -1);  // places that no pair takes
  return order;
}

Arrays plan_of(const Array& indices, int64_t experts) {
  const std::vector<int64_t> pairs = order_of(indices, experts);
  Array order({indices.size()}), place({indices.size()}), offsets({experts + 1}), counts({experts});
  std::ranges::fill(place.values, -1);
  for (int64_t i = 0; i < indices.size(); ++i) {
    const int64_t pair = pairs[static_cast<size_t>(i)];
    order[i] = static_cast<double>(pair);
    if (pair < 0) continue;
    place[pair] = static_cast<double>(i);
    ++counts[static_cast<int64_t>(indices[pair])];
  }
  for (int64_t e = 0; e < experts; ++e) offsets[e + 1] = offsets[e] + counts[e];
  offsets[experts] = static_cast<double>(indices.size());
  return {order, place, offsets, counts};
}

Array dispatch_of(const Array& x, const Array& indices, int64_t experts) {
  const int64_t width = x.shape[1], k = indices.shape[1];
  const std::vector<int64_t> order = order_of(indices, experts);
  Array y({indices.size(), width});
  for (int64_t i = 0; i < y.size(); ++i) {
    const int64_t pair = order[static_cast<size_t>(i / width)];
    if (pair >= 0) y[i] = x[pair / k * width + i % width];
  }
  return y;
}

Array combine_of(const Array& rows, const Array& weights, const Array& indices, int64_t experts) {
  const int64_t width = rows.shape[1], k = indices.shape[1];
  const std::vector<int64_t> order = order_of(indices, experts);
  Array y({indices.shape[0], width});
  for (int64_t i = 0; i < rows.size(); ++i) {
    const int64_t pair = order[static_cast<size_t>(i / width)];
    if (pair >= 0) y[pair / k * width + i % width] += weights[pair] * rows[i];
  }
  return y;
}

struct Sizes {
  int64_t tokens, k, experts, width;
};
const std::vector<Sizes> sizes = {{1, 1, 1, 1}, {0, 2, 3, 4},  {5, 2, 1, 3},  {7, 1, 9, 5},
                                  {6, 3, 4, 0}, {33, 2, 8, 9}, {21, 4, 6, 19}};

std::vector<Sizes> device_sizes() {
  std::vector<Sizes> list = {{1025, 1, 1, 3},   {1023, 8, 1, 2},    {65537, 1, 8, 2}, {65537, 2, 3, 1},
                             {3, 2, 300, 1025}, {256, 8, 256, 128}, {5, 8, 299, 33},  {0, 8, 300, 16},
                             {2000, 2, 64, 96}, {1, 8, 2, 4097},    {300, 4, 128, 0}};
  const int64_t experts[] = {2, 31, 32, 33, 127, 129, 255, 300}, tokens[] = {31, 1, 257, 128, 129, 1000, 33, 512};
  for (int64_t k = 1; k <= 8; ++k) list.push_back({tokens[k - 1], k, experts[k - 1], 8 * k + k % 3});
  return list;
}

// One case for each of the sizes; `inputs` come before the indices.
template <class Make>
std::vector<OpCase> cases(const std::vector<Sizes>& list_of_sizes, bool whole, Make&& make) {
  std::vector<OpCase> list;
  for (const Sizes& s : list_of_sizes) {
    OpCase c = make(s, whole);
    c.name = message(s.tokens, " tokens, ", s.k, " of ", s.experts, ", width ", s.width);
    c.inputs.push_back(indices({s.tokens, s.k}, s.experts));
    if (!whole) c.inputs.back().low = -1;  // no_expert
    list.push_back(std::move(c));
  }
  return list;
}

MoePlan planned(const Tensor& indices, const Sizes& s, bool whole) {
  return whole ? moe_plan(indices, s.experts) : moe_plan_with_gaps(indices, s.experts, s.tokens * s.k);
}

OpCase plan_case(const Sizes& s, bool whole) {
  return {"",
          {},
          [s, whole](const Tensors& t) {
            const MoePlan plan = planned(t[0], s, whole);
            return Tensors{plan.order, plan.place, plan.offsets, plan.counts};
          },
          [s](const Arrays& a) { return plan_of(a[0], s.experts); }};
}

OpCase dispatch_case(const Sizes& s, bool whole) {
  return {"",
          {{{s.tokens, s.width}}},
          [s, whole](const Tensors& t) { return Tensors{moe_dispatch(t[0], planned(t[1], s, whole))}; },
          [s](const Arrays& a) { return Arrays{dispatch_of(a[0], a[1], s.experts)}; }};
}

OpCase combine_case(const Sizes& s, bool whole) {
  return {"",
          {{{s.tokens * s.k, s.width}}, {{s.tokens, s.k}}},
          [s, whole](const Tensors& t) { return Tensors{moe_combine(t[0], t[1], planned(t[2], s, whole))}; },
          [s](const Arrays& a) { return Arrays{combine_of(a[0], a[1], a[2], s.experts)}; }};
}

OpSpec spec_of(const char* name, OpCase (*make)(const Sizes&, bool), bool whole, OpSpecOptions options = {}) {
  options.device_cases = [=] { return cases(device_sizes(), whole, make); };
  return OpSpec(
      name, [=] { return cases(sizes, whole, make); }, options);
}

const OpSpec moe_plan_spec = spec_of("moe_plan", plan_case, true, {.dtypes = {DType::i64}, .gradient = false});
const OpSpec moe_dispatch_spec = spec_of("moe_dispatch", dispatch_case, true);
const OpSpec moe_combine_spec = spec_of("moe_combine", combine_case, true);
const OpSpec moe_plan_gaps_spec =
    spec_of("moe_plan_with_pairs_that_go_nowhere", plan_case, false, {.dtypes = {DType::i64}, .gradient = false});
const OpSpec moe_dispatch_gaps_spec = spec_of("moe_dispatch_with_pairs_that_go_nowhere", dispatch_case, false);
const OpSpec moe_combine_gaps_spec = spec_of("moe_combine_with_pairs_that_go_nowhere", combine_case, false);

BOOST_AUTO_TEST_SUITE(moe)

BOOST_AUTO_TEST_CASE(an_expert_out_of_range_is_named_with_its_token_and_choice) {
  const Tensor bad = Tensor::from({int64_t{0}, int64_t{1}, int64_t{2}, int64_t{4}}, {2, 2});
  check_throws<IndexError>([&] { mahia::moe_plan(bad, 4); },
                           "moe_plan: token 1, choice 1 names expert 4, outside [0, 4)");
  const Tensor negative = Tensor::from({int64_t{-1}}, {1, 1});
  check_throws<IndexError>([&] { mahia::moe_plan(negative, 4); },
                           "moe_plan: token 0, choice 0 names expert -1, outside [0, 4)");
}

BOOST_AUTO_TEST_CASE(operands_that_do_not_fit_are_named) {
  const MoePlan plan = mahia::moe_plan(zeros({3, 2}, DType::i64), 2);
  check_throws<DTypeError>(
      [&] {
        mahia::moe_plan(zeros({3, 2}), 2);
      },
      "moe_plan: needs i64 indices, got f32 [3, 2] cpu:0");
  check_throws<ShapeError>([&] { mahia::moe_plan(zeros({3}, DType::i64), 2); },
                           "moe_plan: needs indices (N, k), got i64 [3] cpu:0");
  check_throws<ValueError>(
      [&] {
        mahia::moe_plan(zeros({0, 2}, DType::i64), 0);
      },
      "moe_plan: num_experts is 0, must be at least 1");
  check_throws<ShapeError>(
      [&] {
        mahia::moe_dispatch(zeros({4, 5}), plan);
      },
      "moe_dispatch: x must be (N, D) with the plan's 3 tokens, got f32 [4, 5] cpu:0");
  check_throws<ShapeError>(
      [&] {
        mahia::moe_combine(zeros({6, 5}), zeros({2, 2}), plan);
      },
      "moe_combine: rows (R, D), weights (N, k) and the plan's 6 rows of 3 tokens with 2 choices disagree: rows f32 "
      "[6, 5] cpu:0, weights f32 [2, 2] cpu:0");
  check_throws<DTypeError>(
      [&] {
        mahia::moe_combine(zeros({6, 5}), zeros({3, 2}, DType::i64), plan);
      },
      "moe_combine: needs floating tensors: rows f32 [6, 5] cpu:0, weights i64 [3, 2] cpu:0");
}

BOOST_AUTO_TEST_CASE(a_plan_ends_at_the_most_rows_that_it_may_have) {
  const auto numbers = [](const Tensor& x) { return copy_to(x, cpu_device, DType::i64).to_vector<int64_t>(); };
  const Tensor some = on_tested_device(Tensor::from({int64_t{1}, int64_t{-1}, int64_t{0}, int64_t{1}}, {2, 2}));
  const MoePlan plan = mahia::moe_plan_with_gaps(some, 2, 3), loose = mahia::moe_plan_with_gaps(some, 2, 100);
  BOOST_TEST((numbers(plan.order) == std::vector<int64_t>{2, 0, 3}));
  BOOST_TEST((numbers(plan.place) == std::vector<int64_t>{1, -1, 0, 2}));
  BOOST_TEST((numbers(plan.offsets) == std::vector<int64_t>{0, 1, 3}));
  BOOST_TEST((numbers(loose.order) == std::vector<int64_t>{2, 0, 3, -1}));
  BOOST_TEST((numbers(loose.offsets) == std::vector<int64_t>{0, 1, 4}));
  const Tensor x = on_tested_device(Tensor::from({2.0f, 3.0f}, {2, 1})).set_requires_grad(true);
  const Tensor g = on_tested_device(Tensor::from({1.0f, 5.0f, 10.0f, 100.0f}, {2, 2})).set_requires_grad(true);
  const Tensor y = mahia::moe_combine(mahia::moe_dispatch(x, plan), g, plan);
  check_close(y, to_array(Tensor::from({2.0f, 330.0f}, {2, 1})), {0, 0});
  backward({y}, {on_tested_device(ones({2, 1}))});
  check_close(x.grad(), to_array(Tensor::from({1.0f, 110.0f}, {2, 1})), {0, 0});
  check_close(g.grad(), to_array(Tensor::from({2.0f, 0.0f, 3.0f, 3.0f}, {2, 2})), {0, 0});
  check_throws<ValueError>([&] { numbers(mahia::moe_plan_with_gaps(some, 2, 2).counts); },
                           "moe_plan: 3 pairs have an expert, more than the 2 rows");
}

BOOST_AUTO_TEST_CASE(a_token_is_summed_in_the_order_of_its_choices) {
  // Large terms that cancel: another order gives 0 or 2. Experts are chosen in descending order.
  const MoePlan plan = mahia::moe_plan(Tensor::from({int64_t{2}, int64_t{1}, int64_t{0}}, {1, 3}), 3);
  const Tensor rows = Tensor::from({1.0f, -1e8f, 1e8f}, {3, 1});  // in expert order
  BOOST_TEST(mahia::moe_combine(rows, ones({1, 3}), plan).item<float>() == 1.0f);
  const Tensor x = zeros({1, 1}).set_requires_grad(true);
  backward({mahia::moe_dispatch(x, plan)}, {rows});
  BOOST_TEST(x.grad().item<float>() == 1.0f);
}

BOOST_AUTO_TEST_CASE(gradients_have_the_same_bits_for_any_thread_count) {
  const RandomCall call{random_key("tests", "moe")};
  const Tensor indices = copy_to(rand({700, 2}, call) * 8.0, cpu_device, DType::i64);
  const int before = num_threads();
  Tensors first;
  for (const int threads : {1, 2, 3, 7}) {
    set_num_threads(threads);
    const Tensor x = randn({700, 96}, call).set_requires_grad(true);
    const Tensor weights = rand({700, 2}, call).set_requires_grad(true);
    const MoePlan plan = mahia::moe_plan(indices, 8);
    const Tensor y = mahia::moe_combine(mahia::moe_dispatch(x, plan), weights, plan);
    backward({y}, {randn(y.shape(), call)});
    const Tensors bits = {y, x.grad(), weights.grad()};
    if (first.empty()) first = bits;
    for (size_t i = 0; i < bits.size(); ++i) check_same_bits(bits[i], first[i]);
  }
  set_num_threads(before);
}

BOOST_AUTO_TEST_CASE(weights_stay_f32_beside_bf16_rows) {
  const MoePlan plan = mahia::moe_plan(zeros({1, 1}, DType::i64), 1);
  const Tensor rows = ones({1, 2}, DType::bf16).set_requires_grad(true);
  const Tensor weights = full({1, 1}, 0.1).set_requires_grad(true);
  const Tensor y = mahia::moe_combine(rows, weights, plan);
  BOOST_TEST((y.dtype() == DType::bf16));
  backward({y}, {full({1, 2}, 1.0 / 3, DType::bf16)});
  const float third = static_cast<float>(bfloat16(1.0f / 3));
  BOOST_TEST(weights.grad().item<float>() == third + third);
  BOOST_TEST(rows.grad().to_vector<float>()[0] == static_cast<float>(bfloat16(0.1f * third)));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
