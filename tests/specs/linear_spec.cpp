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

std::vector<OpCase> linear_cases() {
  std::vector<OpCase> list;
  const auto add = [&](const Shape& x, int64_t out, bool bias) {
    Shape y = x;
    y[y.rank() - 1] = out;
    list.push_back({message(x, " to ", out, bias ? " with bias" : ""), operands(x, x.back(), out, bias),
                    [](const Tensors& t) { return Tensors{linear(t[0], t[1], bias_of(t))}; },
                    [y](const Arrays& a) { return Arrays{linear_of(a, {false}, {false}, y)}; }});
  };
  add({1}, 1, true);
  add({6}, 4, false);
  add({0, 3}, 2, true);
  add({3, 0}, 2, true);
  add({5, 7}, 3, false);
  add({80, 5}, 18, true);
  add({2, 3, 5}, 9, true);
  return list;
}

using ChannelOp = Tensor (*)(const Tensor&, const Tensor&, const Tensor&);

std::vector<OpCase> channel_cases(ChannelOp op, bool to_channels) {
  std::vector<OpCase> list;
  const auto add = [&](int64_t batch, int64_t time, int64_t in, int64_t out, bool bias) {
    const Shape x = to_channels ? Shape{batch, time, in} : Shape{in, batch, time};
    const Shape y = to_channels ? Shape{out, batch, time} : Shape{batch, time, out};
    list.push_back({message(x, " to ", y, bias ? " with bias" : ""), operands(x, in, out, bias),
                    [=](const Tensors& t) { return Tensors{op(t[0], t[1], bias_of(t))}; },
                    [=](const Arrays& a) { return Arrays{linear_of(a, {!to_channels}, {to_channels}, y)}; }});
  };
  add(1, 1, 1, 1, true);
  add(2, 0, 3, 2, true);
  add(2, 3, 0, 2, true);
  add(2, 5, 3, 4, false);
  add(3, 7, 5, 18, true);
  add(1, 23, 4, 3, true);
  return list;
}

const OpSpec linear_spec("linear", linear_cases);
const OpSpec to_channels_spec("linear_to_channels", [] { return channel_cases(linear_to_channels, true); });
const OpSpec from_channels_spec("linear_from_channels", [] { return channel_cases(linear_from_channels, false); });

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
