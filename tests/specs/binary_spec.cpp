// SPDX-License-Identifier: Apache-2.0
#include "ops/binary.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>

#include "autograd/backward.hpp"
#include "core/factory.hpp"
#include "ops/cast.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

using Op = Tensor (*)(const Tensor&, const Tensor&);
using Reference = double (*)(double, double);

// Broadcast by index arithmetic: each output index is split into axes, repeated axes count as 0.
double at(const Array& x, const Shape& out, int64_t index) {
  int64_t offset = 0, step = 1;
  for (int axis = out.rank() - 1, own = x.shape.rank() - 1; own >= 0; --axis, --own) {
    if (x.shape[own] != 1) offset += index % out[axis] * step;
    step *= x.shape[own];
    index /= out[axis];
  }
  return x[offset];
}

Array zip(const Array& a, const Array& b, Reference f) {
  Array y(broadcast_shapes("test", a.shape, b.shape));
  for (int64_t i = 0; i < y.size(); ++i) y[i] = f(at(a, y.shape, i), at(b, y.shape, i));
  return y;
}

struct Pair {
  Shape a, b;
};

const std::vector<Pair> pairs = {
    {{1}, {1}},              // one element
    {{}, {}},                // no axes
    {{0, 3}, {1, 3}},        // nothing
    {{5, 7}, {5, 7}},        // the same shape
    {{6, 11}, {11}},         // a row
    {{6, 11}, {6, 1}},       // a column
    {{7, 1}, {1, 9}},        // the outer product
    {{}, {4, 5}},            // a number on the left
    {{2, 1, 5}, {2, 3, 5}},  // the axis in the middle
};

const std::vector<Pair> device_pairs = {
    {{31}, {31}},
    {{1025}, {1}},
    {{127, 0}, {127, 1}},
    {{129, 257}, {129, 257}},
    {{257, 129}, {129}},
    {{257, 128}, {257, 1}},
    {{1, 1023}, {255, 1}},
    {{3, 40009}, {40009}},
    {{65537, 2}, {2}},
    {{65537, 2}, {65537, 1}},
    {{}, {33, 1025}},
    {{2, 3, 1, 5, 7}, {4, 1, 7}},
    {{2, 1, 3, 1, 33}, {1, 5, 1, 9, 1}},
    {{1000003}, {1000003}},
};

std::vector<OpCase> cases(Op op, Reference f, double low, double high, const std::vector<Pair>& shapes) {
  std::vector<OpCase> list;
  for (const auto& [a, b] : shapes) {
    list.push_back({message(a, " and ", b),
                    {{a, low, high}, {b, low, high}},
                    [op](const Tensors& x) { return Tensors{op(x[0], x[1])}; },
                    [f](const Arrays& x) { return Arrays{zip(x[0], x[1], f)}; }});
  }
  return list;
}

OpCase transposed_case(Op op, Reference f, double low, double high, int64_t rows, int64_t columns) {
  return {message("transposed ", rows, " x ", columns),
          {{{rows, columns}, low, high}, {{columns, rows}, low, high}},
          [op](const Tensors& x) { return Tensors{op(transpose(x[0], 0, 1), x[1])}; },
          [=](const Arrays& x) {
            Array turned(x[1].shape);
            for (int64_t i = 0; i < turned.size(); ++i) turned[i] = x[0][i % rows * columns + i / rows];
            return Arrays{zip(turned, x[1], f)};
          }};
}

OpCase permuted_case(Op op, double low, double high) {
  return {"permuted and broadcast",
          {{{2, 3, 4, 5, 7}, low, high}, {{4, 1, 3, 1}, low, high}},
          [op](const Tensors& x) {
            return Tensors{op(permute(x[0], {4, 2, 0, 1, 3}), x[1])};
          },
          {}};
}

OpSpec spec_of(const char* name, Op op, Reference f, double low, double high) {
  return OpSpec(name,
                [=] {
                  std::vector<OpCase> list = cases(op, f, low, high, pairs);
                  list.push_back(transposed_case(op, f, low, high, 4, 6));
                  return list;
                },
                {.device_cases = [=] {
                  std::vector<OpCase> list = cases(op, f, low, high, device_pairs);
                  list.push_back(transposed_case(op, f, low, high, 129, 65));
                  list.push_back(permuted_case(op, low, high));
                  return list;
                }});
}

const OpSpec add_spec = spec_of(
    "add", add, [](double a, double b) { return a + b; }, -2, 2);
const OpSpec sub_spec = spec_of(
    "sub", sub, [](double a, double b) { return a - b; }, -2, 2);
const OpSpec mul_spec = spec_of(
    "mul", mul, [](double a, double b) { return a * b; }, -2, 2);
const OpSpec div_spec = spec_of(
    "div", div, [](double a, double b) { return a / b; }, 0.5, 2);
const OpSpec pow_spec = spec_of("pow", pow, std::pow, 0.5, 2);
const OpSpec maximum_spec = spec_of("maximum", maximum, std::fmax, -2, 2);
const OpSpec minimum_spec = spec_of("minimum", minimum, std::fmin, -2, 2);

// Tensor with number, both sides, as one spec.
std::vector<OpCase> number_cases(const std::vector<Shape>& shapes) {
  std::vector<OpCase> list;
  for (const Shape& shape : shapes) {
    list.push_back({message(shape),
                    {{shape, 0.5, 2}},
                    [](const Tensors& in) {
                      const Tensor& x = in[0];
                      return Tensors{x + 1.5, 1.5 + x, x - 1.5,     1.5 - x,      x * 1.5,     1.5 * x,
                                     x / 1.5, 1.5 / x, pow(x, 2.0), pow(x, -0.5), pow(x, 3.0), -x};
                    },
                    [](const Arrays& in) {
                      Arrays out(12, Array(in[0].shape));
                      for (int64_t i = 0; i < in[0].size(); ++i) {
                        const double x = in[0][i];
                        const double values[] = {x + 1.5, 1.5 + x, x - 1.5, 1.5 - x,          x * 1.5,   1.5 * x,
                                                 x / 1.5, 1.5 / x, x * x,   1 / std::sqrt(x), x * x * x, -x};
                        for (size_t k = 0; k < 12; ++k) out[k][i] = values[k];
                      }
                      return out;
                    }});
  }
  return list;
}

const OpSpec number_spec(
    "arithmetic_with_numbers",
    [] {
      return number_cases({{1}, {0}, {3, 5}, {2, 3, 7}, {129}});
    },
    {.device_cases = [] {
      return number_cases(
          {{}, {31}, {32}, {33}, {255}, {1025}, {5, 0, 3}, {127, 129}, {3, 9001}, {9001, 3}, {2, 3, 4, 5, 7}, {50021}});
    }});

BOOST_AUTO_TEST_SUITE(binary)

BOOST_AUTO_TEST_CASE(dtypes_promote_as_in_pytorch) {
  const auto dtype_of_sum = [](DType a, DType b) { return add(zeros({2}, a), zeros({2}, b)).dtype(); };
  BOOST_TEST((dtype_of_sum(DType::bf16, DType::f32) == DType::f32));
  BOOST_TEST((dtype_of_sum(DType::i64, DType::bf16) == DType::bf16));
  BOOST_TEST((dtype_of_sum(DType::u8, DType::i32) == DType::i32));
  BOOST_TEST((dtype_of_sum(DType::boolean, DType::u8) == DType::u8));
  // A tensor without axes does not widen one with axes of the same kind, but of a lower kind.
  BOOST_TEST((add(zeros({2}), scalar(1, DType::f64)).dtype() == DType::f32));
  BOOST_TEST((add(zeros({2}, DType::i64), scalar(1, DType::f64)).dtype() == DType::f64));
  BOOST_TEST((div(arange(3), arange(3)).dtype() == DType::f32));
  BOOST_TEST((add(zeros({2}, DType::boolean), 1).dtype() == DType::i64));
  BOOST_TEST((mul(arange(3), 2).dtype() == DType::i64));
}

BOOST_AUTO_TEST_CASE(integers_compute_exactly_and_wrap_around) {
  const int64_t big = int64_t{1} << 62;
  const Tensor x = Tensor::from({big, int64_t{-3}, int64_t{7}}, {3}),
               z = Tensor::from({big, int64_t{5}, int64_t{7}}, {3});
  using Values = std::vector<int64_t>;
  BOOST_TEST((x + z).to_vector<int64_t>() == (Values{INT64_MIN, 2, 14}), boost::test_tools::per_element());
  BOOST_TEST((x - z).to_vector<int64_t>() == (Values{0, -8, 0}), boost::test_tools::per_element());
  BOOST_TEST((x * 3).to_vector<int64_t>() == (Values{-big, -9, 21}), boost::test_tools::per_element());
  BOOST_TEST(maximum(x, z).to_vector<int64_t>() == (Values{big, 5, 7}), boost::test_tools::per_element());
  BOOST_TEST(minimum(x, z).to_vector<int64_t>() == (Values{big, -3, 7}), boost::test_tools::per_element());
  const Tensor bytes = Tensor::from({uint8_t{200}, uint8_t{3}}, {2});
  BOOST_TEST((bytes + bytes).to_vector<int64_t>() == (Values{144, 6}), boost::test_tools::per_element());
  const Tensor truth = Tensor::from({true, false}, {2});
  BOOST_TEST((truth + truth).to_vector<bool>() == (std::vector<bool>{true, false}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(not_a_number_wins_in_maximum_and_minimum) {
  const Tensor x = Tensor::from({NAN, 1.0f}, {2}), z = Tensor::from({1.0f, NAN}, {2});
  for (const float value : maximum(x, z).to_vector<float>()) BOOST_TEST(std::isnan(value));
  for (const float value : minimum(x, z).to_vector<float>()) BOOST_TEST(std::isnan(value));
}

BOOST_AUTO_TEST_CASE(the_gradient_of_a_tie_is_halved) {
  Tensor x = ones({2}), z = ones({2});
  x.set_requires_grad(true);
  z.set_requires_grad(true);
  backward(sum(maximum(x, z)));
  for (const Tensor& leaf : {x, z}) {
    BOOST_TEST(leaf.grad().to_vector<float>() == (std::vector<float>{0.5f, 0.5f}), boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(promotion_sends_each_gradient_back_in_its_own_dtype) {
  Tensor x = ones({3}, DType::bf16), z = full({3}, 2, DType::f32);
  x.set_requires_grad(true);
  z.set_requires_grad(true);
  backward(sum(mul(to(mul(x, 1), DType::bf16), z)));
  BOOST_TEST(x.grad().to_vector<float>() == (std::vector<float>{2, 2, 2}), boost::test_tools::per_element());
  BOOST_TEST(z.grad().to_vector<float>() == (std::vector<float>{1, 1, 1}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(many_tasks_agree_with_one_by_one) {
  const Tensor x = randn({300, 700}), row = randn({700}), column = randn({300, 1});
  const auto a = x.to_vector<float>(), r = row.to_vector<float>(), c = column.to_vector<float>();
  const auto with_row = (x * row).to_vector<float>(), with_column = (x - column).to_vector<float>();
  for (size_t i = 0; i < a.size(); i += 101) {
    BOOST_TEST(with_row[i] == a[i] * r[i % 700]);
    BOOST_TEST(with_column[i] == a[i] - c[i / 700]);
  }
}

BOOST_AUTO_TEST_CASE(errors_name_the_op_and_every_operand) {
  check_throws<ShapeError>(
      [] {
        add(zeros({2, 3}), zeros({4, 3}));
      },
      "add: shapes [2, 3] and [4, 3] do not broadcast: 2 against 4 on axis 0");
  check_throws<DTypeError>([] { mul(zeros({2}, DType::f16), zeros({2})); },
                           "mul: f16 is for storage only: f16 [2] cpu:0, f32 [2] cpu:0");
  check_throws<DTypeError>(
      [] { add(arange(3), 0.5); },
      "add: the number 0.5 is not whole, but the tensor is i64 [3] cpu:0; cast it with to() first");
  check_throws<DTypeError>([] { pow(arange(3), arange(3)); },
                           "pow: needs floating tensors, got i64 [3] cpu:0 and i64 [3] cpu:0");
}

BOOST_AUTO_TEST_CASE(pow_at_zero_has_pytorchs_slopes) {
  const auto slopes = [](double base, double exponent) {
    const Tensor a = Tensor::from({base}, {1}).set_requires_grad(true),
                 b = Tensor::from({exponent}, {1}).set_requires_grad(true);
    backward(sum(pow(a, b)));
    return std::pair{a.grad().item<double>(), b.grad().item<double>()};
  };
  BOOST_TEST((slopes(0, 0) == std::pair{0.0, 0.0}));
  BOOST_TEST((slopes(0, 1) == std::pair{1.0, 0.0}));
  BOOST_TEST((slopes(0, 2) == std::pair{0.0, 0.0}));
  const Tensor x = Tensor::from({0.0, 2.0}, {2}).set_requires_grad(true);
  backward(sum(pow(x, 0.0)));
  BOOST_TEST(x.grad().to_vector<double>() == (std::vector<double>{0, 0}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
