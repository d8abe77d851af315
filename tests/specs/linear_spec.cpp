// SPDX-License-Identifier: Apache-2.0
#include "ops/linear.hpp"

#include <boost/test/unit_test.hpp>

#include "core/factory.hpp"
#include "ops/shape.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

// How the rows and features of an operand lie: (rows, features) or (features, rows).
struct Layout {
  bool features_first;
  int64_t at(int64_t row, int64_t feature, int64_t rows, int64_t features) const {
    return features_first ? feature * rows + row : row * features + feature;
  }
};

Array linear_of(const Arrays& x, Layout from, Layout to, const Shape& shape) {
  const int64_t out = x[1].shape[0], in = x[1].shape[1];
  Array y(shape);
  const int64_t rows = out == 0 ? 0 : y.size() / out;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < out; ++o) {
      double sum = x.size() > 2 ? x[2][o] : 0;
      for (int64_t i = 0; i < in; ++i) sum += x[0][from.at(r, i, rows, in)] * x[1][o * in + i];
      y[to.at(r, o, rows, out)] = sum;
    }
  }
  return y;
}

std::vector<Input> operands(const Shape& x, int64_t in, int64_t out, bool bias) {
  std::vector<Input> inputs = {{x}, {{out, in}}};
  if (bias) inputs.push_back({{out}});
  return inputs;
}

Tensor bias_of(const Tensors& x) { return x.size() > 2 ? x[2] : Tensor(); }

OpCase linear_case(const Shape& x, int64_t out, bool bias) {
  Shape y = x;
  y[y.rank() - 1] = out;
  return {message(x, " to ", out, bias ? " with bias" : ""), operands(x, x.back(), out, bias),
          [](const Tensors& t) { return Tensors{linear(t[0], t[1], bias_of(t))}; },
          [y](const Arrays& a) { return Arrays{linear_of(a, {false}, {false}, y)}; }};
}

std::vector<OpCase> linear_cases() {
  return {linear_case({1}, 1, true),      linear_case({6}, 4, false),    linear_case({0, 3}, 2, true),
          linear_case({3, 0}, 2, true),   linear_case({5, 7}, 3, false), linear_case({80, 5}, 18, true),
          linear_case({2, 3, 5}, 9, true)};
}

std::vector<OpCase> linear_device_cases() {
  std::vector<OpCase> list = {
      linear_case({1025, 128}, 129, true), linear_case({256, 128}, 256, true),  linear_case({3, 3001}, 257, true),
      linear_case({40009, 3}, 5, false),   linear_case({65537, 1}, 1, true),    linear_case({1, 1}, 65537, true),
      linear_case({257}, 1025, true),      linear_case({1, 1023}, 1, false),    linear_case({2, 3, 4, 5, 33}, 65, true),
      linear_case({7, 0, 31}, 32, false),  linear_case({500, 255}, 127, false), linear_case({8, 4096}, 64, true)};
  for (const int64_t n : {31, 32, 33, 64, 127, 128}) list.push_back(linear_case({n + 1, n}, n - 1, n % 2 == 0));
  return list;
}

using ChannelOp = Tensor (*)(const Tensor&, const Tensor&, const Tensor&);

struct Sizes {
  int64_t batch, time, in, out;
  bool bias = true;
};
const std::vector<Sizes> sizes = {{1, 1, 1, 1},        {2, 0, 3, 2},  {2, 3, 0, 2},
                                  {2, 5, 3, 4, false}, {3, 7, 5, 18}, {1, 23, 4, 3}};
const std::vector<Sizes> device_sizes = {
    {2, 31, 32, 33},  {1, 32, 31, 64},  {3, 129, 127, 65, false}, {4, 256, 128, 128}, {1, 1025, 129, 127},
    {65537, 1, 2, 3}, {1, 65537, 3, 2}, {300, 7, 33, 1, false},   {7, 300, 1, 33},    {1, 1, 1023, 257},
    {2, 3, 3001, 5},  {5, 64, 255, 96}, {8, 128, 64, 256, false}};

std::vector<OpCase> channel_cases(ChannelOp op, bool to_channels, const std::vector<Sizes>& list_of_sizes) {
  std::vector<OpCase> list;
  for (const Sizes& s : list_of_sizes) {
    const Shape x = to_channels ? Shape{s.batch, s.time, s.in} : Shape{s.in, s.batch, s.time};
    const Shape y = to_channels ? Shape{s.out, s.batch, s.time} : Shape{s.batch, s.time, s.out};
    list.push_back({message(x, " to ", y, s.bias ? " with bias" : ""), operands(x, s.in, s.out, s.bias),
                    [=](const Tensors& t) { return Tensors{op(t[0], t[1], bias_of(t))}; },
                    [=](const Arrays& a) { return Arrays{linear_of(a, {!to_channels}, {to_channels}, y)}; }});
  }
  return list;
}

OpSpec channel_spec(const char* name, ChannelOp op, bool to_channels) {
  return OpSpec(name, [=] { return channel_cases(op, to_channels, sizes); },
                {.device_cases = [=] { return channel_cases(op, to_channels, device_sizes); }});
}

const OpSpec linear_spec("linear", linear_cases, {.device_cases = linear_device_cases});
const OpSpec to_channels_spec = channel_spec("linear_to_channels", linear_to_channels, true);
const OpSpec from_channels_spec = channel_spec("linear_from_channels", linear_from_channels, false);

BOOST_AUTO_TEST_SUITE(linear)

BOOST_AUTO_TEST_CASE(names_operands_that_do_not_fit) {
  check_throws<ShapeError>(
      [] {
        mahia::linear(zeros({8, 64}), zeros({32, 128}));
      },
      "linear: x (.., in) and weight (out, in) disagree on `in`: x f32 [8, 64] cpu:0, weight f32 [32, 128] cpu:0");
  check_throws<ShapeError>(
      [] {
        mahia::linear(zeros({8, 64}), zeros({64}));
      },
      "linear: weight must be (out, in): weight f32 [64] cpu:0");
  check_throws<ShapeError>(
      [] {
        mahia::linear(zeros({8, 64}), zeros({32, 64}), zeros({64}));
      },
      "linear: weight (out, in) and bias (out) disagree on `out`: weight f32 [32, 64] cpu:0, bias "
      "f32 [64] cpu:0");
  check_throws<DTypeError>(
      [] {
        mahia::linear(zeros({8, 64}), zeros({32, 64}, DType::bf16));
      },
      "linear: needs one floating dtype: x f32 [8, 64] cpu:0, weight bf16 [32, 64] cpu:0, bias "
      "undefined");
  check_throws<ShapeError>(
      [] {
        linear_from_channels(zeros({8, 64}), zeros({32, 8}));
      },
      "linear_from_channels: x must be (in, B, T): x f32 [8, 64] cpu:0");
}

BOOST_AUTO_TEST_CASE(channels_and_tokens_have_the_same_bits) {
  const Tensor x = randn({3, 50, 96}), weight = randn({130, 96}), bias = randn({130});
  const Tensor y = mahia::linear(x, weight, bias);
  check_same_bits(contiguous(permute(linear_to_channels(x, weight, bias), {1, 2, 0})), y);
  check_same_bits(linear_from_channels(contiguous(permute(x, {2, 0, 1})), weight, bias), y);
  check_same_bits(mahia::linear(select(select(x, 0, 2), 0, 49), weight, bias), select(select(y, 0, 2), 0, 49));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
