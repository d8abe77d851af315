// SPDX-License-Identifier: Apache-2.0
#include "ops/conv1d.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>

#include "autograd/backward.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/parallel.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

struct Convolution {
  Shape x, weight;
  Conv1dOptions options = {};
  bool has_bias = true;
};

int64_t zeros_before(const Convolution& c) {
  const int64_t span = c.options.dilation * (c.weight[2] - 1);
  if (const auto* zeros = std::get_if<int64_t>(&c.options.padding)) return *zeros;
  return std::get<Padding>(c.options.padding) == Padding::causal ? span : span / 2;
}

int64_t zeros_after(const Convolution& c) {
  const int64_t span = c.options.dilation * (c.weight[2] - 1);
  if (const auto* zeros = std::get_if<int64_t>(&c.options.padding)) return *zeros;
  return std::get<Padding>(c.options.padding) == Padding::causal ? 0 : span - span / 2;
}

// The sum as written, term by term.
Array direct(const Arrays& in, const Convolution& c) {
  const Array &x = in[0], &weight = in[1];
  const int64_t batch = c.x[0], channels = c.x[1], time = c.x[2];
  const int64_t filters = c.weight[0], depth = c.weight[1], taps = c.weight[2];
  const auto& [stride, padding, dilation, groups] = c.options;
  const int64_t span = dilation * (taps - 1),
                outputs = (zeros_before(c) + time + zeros_after(c) - span - 1) / stride + 1;
  Array y({batch, filters, outputs});
  for (int64_t i = 0; i < y.size(); ++i) {
    const int64_t t = i % outputs, o = i / outputs % filters, b = i / outputs / filters;
    const int64_t first = o / (filters / groups) * depth;
    y[i] = c.has_bias ? in[2][o] : 0;
    for (int64_t j = 0; j < depth * taps; ++j) {
      const int64_t from = t * stride + j % taps * dilation - zeros_before(c);
      if (from < 0 || from >= time) continue;
      y[i] += weight[o * depth * taps + j] * x[(b * channels + first + j / taps) * time + from];
    }
  }
  return y;
}

Tensor call(const Tensors& x, const Convolution& c) {
  return conv1d(x[0], x[1], c.has_bias ? x[2] : Tensor(), c.options);
}

OpCase make_case(const Convolution& c) {
  std::vector<Input> inputs = {{c.x}, {c.weight, -0.7, 0.7}};
  if (c.has_bias) inputs.push_back({{c.weight[0]}});
  const auto& [stride, padding, dilation, groups] = c.options;
  return {message(c.x, " by ", c.weight, " stride ", stride, " dilation ", dilation, " groups ", groups), inputs,
          [=](const Tensors& x) { return Tensors{call(x, c)}; }, [=](const Arrays& x) { return Arrays{direct(x, c)}; }};
}

Conv1dOptions depthwise(int64_t channels, std::variant<int64_t, Padding> padding, int64_t dilation = 1) {
  return {.padding = padding, .dilation = dilation, .groups = channels};
}

std::vector<OpCase> made(const std::vector<Convolution>& list) {
  std::vector<OpCase> cases;
  for (const Convolution& c : list) cases.push_back(make_case(c));
  return cases;
}

std::vector<OpCase> cases() {
  return made({
      {{1, 1, 1}, {1, 1, 1}},
      {{0, 3, 7}, {3, 1, 3}, depthwise(3, Padding::causal)},
      {{2, 3, 0}, {3, 1, 3}, depthwise(3, 2)},
      {{2, 3, 5}, {3, 1, 3}, depthwise(3, Padding::causal)},
      {{2, 9, 40}, {9, 1, 3}, depthwise(9, Padding::causal), false},
      {{3, 2, 37}, {2, 1, 4}, depthwise(2, Padding::same, 3)},
      {{1, 2, 11}, {2, 1, 2}, depthwise(2, 5)},
      {{1, 3, 65}, {3, 1, 7}, depthwise(3, 0, 2)},
      {{0, 2, 5}, {3, 2, 2}},
      {{2, 3, 11}, {5, 3, 3}},
      {{2, 4, 10}, {6, 2, 2}, {.padding = 1, .groups = 2}},
      {{2, 3, 11}, {4, 3, 3}, {.stride = 2, .padding = 1}, false},
      {{1, 3, 12}, {2, 3, 4}, {.stride = 3, .padding = Padding::causal, .dilation = 2}},
      {{2, 3, 9}, {6, 1, 3}, {.padding = Padding::same, .groups = 3}},
  });
}

std::vector<OpCase> device_cases() {
  std::vector<Convolution> list = {
      {{1, 1, 30011}, {1, 1, 9}, depthwise(1, Padding::causal)},
      {{3, 130, 1025}, {130, 1, 4}, depthwise(130, Padding::causal)},
      {{2, 129, 255}, {129, 1, 9}, depthwise(129, Padding::same, 16), false},
      {{1, 65537, 2}, {65537, 1, 2}, depthwise(65537, Padding::causal)},
      {{65537, 1, 3}, {1, 1, 3}, depthwise(1, 1)},
      {{2, 33, 127}, {33, 1, 5}, depthwise(33, 0, 31)},  // from 127 to 3
      {{4, 32, 500}, {64, 32, 5}, {.padding = Padding::causal}},
      {{2, 128, 128}, {64, 128, 3}, {.padding = Padding::same, .dilation = 7}},
      {{1, 65, 1023}, {33, 65, 2}, {.padding = 1}, false},
      {{3, 48, 257}, {96, 16, 3}, {.stride = 2, .padding = 1, .groups = 3}},
      {{2, 1, 8000}, {31, 1, 9}, {.stride = 4, .padding = 8, .dilation = 2}},
  };
  for (int64_t taps = 1; taps <= 9; ++taps) {
    list.push_back({{2, 31, 129}, {31, 1, taps}, depthwise(31, Padding::causal, taps % 4 + 1)});
    list.push_back({{2, 8, 65}, {16, 4, taps}, {.padding = taps, .dilation = taps % 3 + 1, .groups = 2}});
  }
  return made(list);
}

const OpSpec conv1d_spec("conv1d", cases, {.device_cases = device_cases});

Tensors random_operands(const Convolution& c, DType dtype = DType::f32) {
  return {make_input({c.x}, dtype, 1, false), make_input({c.weight}, dtype, 2, false),
          make_input({{c.weight[0]}}, dtype, 3, false)};
}

// A kernel of its own, and a product of matrices.
const Convolution causal[] = {{{3, 10, 70}, {10, 1, 4}, depthwise(10, Padding::causal)},
                              {{3, 4, 33}, {6, 4, 3}, {.padding = Padding::causal, .dilation = 2}}};

BOOST_AUTO_TEST_SUITE(conv1d)

BOOST_AUTO_TEST_CASE(rejects_operands_that_do_not_fit) {
  const Tensor x = zeros({2, 4, 8}), weight = zeros({6, 4, 3});
  const auto run = [&](const Tensor& input, const Tensor& filter, const Tensor& bias = {},
                       const Conv1dOptions& options = {}) {
    return [=] { mahia::conv1d(input, filter, bias, options); };
  };
  check_throws<ShapeError>(run(zeros({4, 8}), weight), "conv1d: x must be (B, C, T), got f32 [4, 8] cpu:0");
  check_throws<ShapeError>(run(x, zeros({6, 4})), "conv1d: weight must be (O, C/groups, K), got f32 [6, 4] cpu:0");
  check_throws<ShapeError>(run(x, zeros({6, 3, 3})),
                           "conv1d: x (B, C, T) and weight (O, C/groups, K) disagree for 1 groups: x f32 [2, 4, 8] "
                           "cpu:0, weight f32 [6, 3, 3] cpu:0");
  check_throws<ShapeError>(run(x, weight, zeros({4})), "conv1d: bias must be (O) with O = 6, got f32 [4] cpu:0");
  check_throws<ShapeError>(run(x, zeros({6, 4, 9})),
                           "conv1d: the filter reaches over 9 elements, x with its padding has 8");
  check_throws<ValueError>(run(x, weight, {}, {.stride = 0}),
                           "conv1d: stride 0, dilation 1 and groups 1 must be at least 1");
  check_throws<ValueError>(run(x, weight, {}, {.padding = -1}), "conv1d: padding -1 is negative");
  check_throws<ValueError>(run(x, weight, {}, {.stride = 2, .padding = Padding::same}),
                           "conv1d: padding `same` needs stride 1, got 2");
  check_throws<DTypeError>(run(zeros({2, 4, 8}, DType::i64), weight), "conv1d: needs f64, f32 or bf16");
  check_throws<DTypeError>(run(x, zeros({6, 4, 3}, DType::f64)),
                           "conv1d: a filter has the signal's dtype, or f32 beside bf16");
}

BOOST_AUTO_TEST_CASE(causal_padding_does_not_see_the_future) {
  for (const Convolution& c : causal) {
    Tensors x = random_operands(c);
    const int64_t now = c.x[2] / 2, later = c.x[2] - now - 1;
    const Tensor before = call(x, c);
    x[0] = contiguous(x[0]);
    fill(narrow(x[0], 2, now + 1, later), 100);
    check_same_bits(narrow(call(x, c), 2, 0, now + 1), narrow(before, 2, 0, now + 1));
    x[0].set_requires_grad(true);
    backward(sum(select(call(x, c), 2, now)));
    const Tensor future = narrow(x[0].grad(), 2, now + 1, later);
    check_close(future, Array(future.shape()), {0, 0});
  }
}

BOOST_AUTO_TEST_CASE(a_row_has_the_same_bits_in_any_batch_and_layout) {
  const Convolution& c = causal[0];
  const Tensors x = random_operands(c);
  const Tensor y = call(x, c);
  check_same_bits(call({narrow(x[0], 0, 1, 1), x[1], x[2]}, c), narrow(y, 0, 1, 1));
  const Tensor channels_first = transpose(contiguous(transpose(x[0], 0, 1)), 0, 1);
  const Tensor same_order = call({channels_first, x[1], x[2]}, c);
  check_same_bits(same_order, y);
  BOOST_TEST((same_order.strides() == channels_first.strides()));
}

BOOST_AUTO_TEST_CASE(gradients_have_the_same_bits_for_any_thread_count) {
  const int before = num_threads();
  for (const Convolution& c : causal) {
    Tensors first;
    for (const int threads : {1, 2, 3, 7}) {
      set_num_threads(threads);
      Tensors x = random_operands(c);
      for (Tensor& operand : x) operand.set_requires_grad(true);
      backward(sum(call(x, c)));
      for (size_t i = 0; i < x.size(); ++i) {
        if (threads == 1) first.push_back(x[i].grad());
        check_same_bits(x[i].grad(), first[i]);
      }
    }
  }
  set_num_threads(before);
}

BOOST_AUTO_TEST_CASE(rows_longer_than_a_tile_equal_the_direct_sum) {
  const Convolution c{{1, 2, 5000}, {2, 1, 5}, depthwise(2, Padding::causal, 7)};
  const Tensors x = random_operands(c, DType::f64);
  check_close(call(x, c), direct({to_array(x[0]), to_array(x[1]), to_array(x[2])}, c), {1e-12, 1e-12});
  const Tensor narrow_y = call(random_operands(c, DType::bf16), c);
  BOOST_TEST((narrow_y.dtype() == DType::bf16));
}

// Every bf16 number times one that gives midpoints, their neighbours and overflow: the bits of a single conversion.
BOOST_AUTO_TEST_CASE(bf16_results_are_rounded_to_nearest_even) {
  std::vector<bfloat16> numbers(1 << 16);
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i].bits = static_cast<uint16_t>(i);
  const Tensor x = Tensor::from(numbers, {1, 1, 1 << 16});
  for (const float weight : {1.0f, 1.00390625f, 1.5f, -0.99999994f, 1.001953125f}) {
    const Tensor y = mahia::conv1d(x, full({1, 1, 1}, weight), full({1}, -0.0));
    const auto* const actual = ConstView(y).data<bfloat16>();
    size_t wrong = 0;
    for (size_t i = 0; i < numbers.size(); ++i) {
      const bfloat16 expected(static_cast<float>(numbers[i]) * weight);
      const bool is_nan = std::isnan(static_cast<float>(expected));
      wrong += is_nan ? !std::isnan(static_cast<float>(actual[i])) : actual[i].bits != expected.bits;
    }
    BOOST_TEST(wrong == 0u, wrong << " of the products by " << weight);
  }
}

BOOST_AUTO_TEST_CASE(takes_an_f32_filter_beside_a_bf16_signal) {
  for (const Convolution& c : causal) {
    const Tensors x = random_operands(c, DType::bf16);
    const Tensors wide = {x[0], copy_to(x[1], cpu_device, DType::f32), copy_to(x[2], cpu_device, DType::f32)};
    check_same_bits(call(wide, c), call(x, c));
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
