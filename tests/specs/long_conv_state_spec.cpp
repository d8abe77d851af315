// SPDX-License-Identifier: Apache-2.0
#include "ops/long_conv_state.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>

#include "core/copy.hpp"
#include "core/counters.hpp"
#include "core/factory.hpp"
#include "core/parallel.hpp"
#include "ops/cat.hpp"
#include "ops/shape.hpp"
#include "tests/support/convolution.hpp"

namespace mahia::tests {
namespace {

// The first `prefilled` positions at once, the others one by one.
Tensor in_steps(const Tensors& x, int parts, int64_t prefilled, int64_t longest) {
  const ConvOperands<Tensor> o(x, parts);
  LongConvState state(o.h, o.skip, o.u.size(0), longest, o.u.dtype());
  const auto first = [&](const Tensor& s) { return s ? narrow(s, 2, 0, prefilled) : s; };
  Tensors outputs = {state.prefill(first(o.u), first(o.before), first(o.after))};
  for (int64_t t = prefilled; t < o.u.size(2); ++t) {
    const auto now = [&](const Tensor& s) { return s ? select(s, 2, t) : s; };
    outputs.push_back(unsqueeze(state.step(now(o.u), now(o.before), now(o.after)), 2));
  }
  BOOST_TEST(state.position() == o.u.size(2));
  return cat(outputs, 2);
}

OpCase make_case(const Shape& shape, int64_t taps, int parts, int64_t prefilled) {
  return {message(shape, " taps ", taps, " parts ", parts, " prefilled ", prefilled), conv_inputs(shape, taps, parts),
          [=](const Tensors& x) { return Tensors{in_steps(x, parts, prefilled, std::max<int64_t>(shape[2], 1))}; },
          [=](const Arrays& x) { return Arrays{direct_sum(x, parts)}; }};
}

std::vector<OpCase> cases() {
  return {make_case({1, 1, 1}, 1, none, 0),
          make_case({1, 1, 1}, 3, all, 1),
          make_case({0, 2, 5}, 5, all, 2),
          make_case({2, 0, 5}, 5, all, 2),
          make_case({2, 3, 0}, 4, all, 0),
          make_case({2, 3, 7}, 7, with_before | with_after, 3),
          make_case({3, 2, 12}, 12, with_skip, 0),
          make_case({2, 2, 65}, 65, all, 64),
          make_case({1, 2, 70}, 200, with_before, 1),
          make_case({2, 1, 140}, 66, with_after, 70)};
}

std::vector<OpCase> device_cases() {
  return {make_case({3, 33, 300}, 300, all, 0),    make_case({2, 5, 600}, 600, all, 129),
          make_case({9, 129, 130}, 3, all, 64),    make_case({1, 2, 1100}, 2000, with_skip, 1023),
          make_case({2, 3, 2200}, 400, all, 2000), make_case({1, 300, 100}, 100, none, 99)};
}

const OpSpec long_conv_state_spec(
    "long_conv_state", cases, {.gradient = false, .f32_rtol = 1.3e-6, .f32_atol = 2e-5, .device_cases = device_cases});

void check_every_way(const Shape& shape, int64_t taps, DType dtype, std::initializer_list<int64_t> prefills) {
  Tensors x = random_operands(shape, dtype);
  x[1] = make_input({{shape[1], taps}}, dtype, 1, false);
  const Tensor expected = convolve(x, all, ConvAlgorithm::dyadic);
  for (const int64_t prefilled : prefills) {
    if (prefilled > shape[2]) continue;
    for (const int64_t longest : {shape[2], 3 * shape[2] + 77}) {
      BOOST_TEST_CONTEXT(shape[2] << " positions of " << longest << ", taps " << taps << ", prefilled " << prefilled) {
        check_same_bits(in_steps(x, all, prefilled, longest), expected);
      }
    }
  }
}

BOOST_AUTO_TEST_SUITE(long_conv_state)

BOOST_AUTO_TEST_CASE(prefill_and_steps_give_the_bits_of_the_whole) {
  for (const int64_t time : {1, 63, 64, 65, 130, 300}) {
    for (const int64_t taps : {int64_t{1}, int64_t{40}, int64_t{100}, time}) {
      check_every_way({2, 2, time}, taps, DType::f32, {0, 1, time / 3, 64, time - 1, time});
    }
    check_every_way({2, 2, time}, time, DType::bf16, {0, time / 2});
    check_every_way({2, 2, time}, time, DType::f64, {0, time / 2});
  }
}

BOOST_AUTO_TEST_CASE(bits_depend_neither_on_threads_nor_on_the_batch) {
  const int before = num_threads();
  const Tensors x = random_operands({3, 4, 200});
  const Tensor expected = convolve(x, all, ConvAlgorithm::dyadic);
  for (const int threads : {1, 2, 7}) {
    set_num_threads(threads);
    check_same_bits(in_steps(x, all, 70, 200), expected);
  }
  set_num_threads(before);
  Tensors alone;
  for (const Tensor& operand : x) alone.push_back(operand.rank() == 3 ? narrow(operand, 0, 1, 1) : operand);
  check_same_bits(in_steps(alone, all, 70, 200), narrow(expected, 0, 1, 1));
}

BOOST_AUTO_TEST_CASE(takes_f32_filters_beside_bf16_signals) {
  Tensors x = random_operands({1, 2, 90}, DType::bf16);
  const Tensor expected = convolve(x, all, ConvAlgorithm::dyadic);
  for (const size_t i : {1, 2}) x[i] = copy_to(x[i], cpu_device, DType::f32);
  check_same_bits(in_steps(x, all, 30, 90), expected);
}

BOOST_AUTO_TEST_CASE(operations_of_all_steps_grow_as_documented) {
  const int64_t longest = 65536;
  const Tensor u = ones({1, 1});
  LongConvState state(make_input({{1, longest}}, DType::f32, 1, false), {}, 1, longest, DType::f32);
  double least = 1e9, most = 0;
  count_costs(true);
  const double before = counters().flops;
  while (state.position() < longest) {
    state.step(u);
    const int64_t time = state.position();
    if (time < 512 || (time & (time - 1)) != 0) continue;
    const auto n = static_cast<double>(time);
    const double per_step = (counters().flops - before) / (n * std::log2(n) * std::log2(n));
    least = std::min(least, per_step);
    most = std::max(most, per_step);
  }
  count_costs(false);
  BOOST_TEST(most <= 1.5 * least);
}

BOOST_AUTO_TEST_CASE(rejects_what_does_not_fit) {
  const Tensor h = zeros({3, 8});
  check_throws<ShapeError>([&] { LongConvState(zeros({8}), {}, 1, 10, DType::f32); },
                           "long_conv_state: h must be (D, K) with K >= 1, got f32 [8] cpu:0");
  check_throws<ShapeError>([&] { LongConvState(h, zeros({2}), 1, 10, DType::f32); },
                           "long_conv_state: skip must be (D) with D = 3");
  check_throws<ValueError>([&] { LongConvState(h, {}, 1, 0, DType::f32); }, "got 1 and 0");
  check_throws<DTypeError>([&] { LongConvState(h, {}, 1, 10, DType::i64); }, "needs signals in f64, f32 or bf16");
  check_throws<DTypeError>([&] { LongConvState(h, {}, 1, 10, DType::f64); },
                           "long_conv_state: a filter has the signal's dtype, or f32 beside bf16");
  LongConvState state(h, {}, 2, 4, DType::f32);
  check_throws<ShapeError>([&] { state.step(zeros({2, 4})); }, "long_conv_state.step: u must be [2, 3]");
  check_throws<ShapeError>([&] { state.step(zeros({2, 3}), zeros({3, 2})); }, "gate_before must be [2, 3]");
  check_throws<DTypeError>([&] { state.step(zeros({2, 3}, DType::bf16)); }, "u must be f32");
  check_throws<ValueError>([&] { state.prefill(zeros({2, 3, 5})); }, "there is room for 4 positions");
  Tensor leaf = zeros({2, 3}).set_requires_grad(true);
  check_throws<ValueError>([&] { state.step(leaf); }, "has no backward, but u requires a gradient");
  BOOST_TEST(state.position() == 0);
  state.prefill(zeros({2, 3, 3}));
  check_throws<ValueError>([&] { state.prefill(zeros({2, 3, 1})); }, "begins at position 0, the state is at 3");
  state.step(zeros({2, 3}));
  check_throws<ValueError>([&] { state.step(zeros({2, 3})); }, "all 4 positions are taken");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(slow_long_conv_state)

BOOST_AUTO_TEST_CASE(prefill_and_steps_give_the_bits_of_the_whole_at_any_length) {
  for (int64_t time = 1; time <= 260; ++time) {
    check_every_way({1, 1, time}, time, DType::f32, {0, time / 4, time / 2, time - 1, time});
  }
  for (const int64_t time : {511, 513, 1000, 2049, 5000}) {
    for (const int64_t taps : {int64_t{129}, int64_t{1000}, time}) {
      check_every_way({2, 1, time}, taps, DType::f32, {0, 1, 127, 500, time / 2, time - 65});
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
