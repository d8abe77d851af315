// SPDX-License-Identifier: Apache-2.0
#include "ops/grouped_mm.hpp"

#include <boost/test/unit_test.hpp>

#include "autograd/backward.hpp"
#include "core/factory.hpp"
#include "ops/linear.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

Tensor offsets_of(const std::vector<int32_t>& offsets, Device device = cpu_device) {
  return Tensor::from(offsets, {static_cast<int64_t>(offsets.size())}, device);
}

Array grouped_of(const Arrays& x, const std::vector<int32_t>& offsets) {
  const int64_t out = x[1].shape[1], in = x[1].shape[2];
  Array y({x[0].shape[0], out});
  for (int64_t e = 0; e < x[1].shape[0]; ++e) {
    for (int64_t r = offsets[static_cast<size_t>(e)]; r < offsets[static_cast<size_t>(e + 1)]; ++r) {
      for (int64_t o = 0; o < out; ++o) {
        double sum = x.size() > 2 ? x[2][e * out + o] : 0;
        for (int64_t i = 0; i < in; ++i) sum += x[0][r * in + i] * x[1][(e * out + o) * in + i];
        y[r * out + o] = sum;
      }
    }
  }
  return y;
}

OpCase grouped_case(const std::vector<int32_t>& offsets, int64_t in, int64_t out, bool bias) {
  const auto groups = static_cast<int64_t>(offsets.size()) - 1;
  std::vector<Input> inputs = {{{offsets.back(), in}}, {{groups, out, in}}};
  if (bias) inputs.push_back({{groups, out}});
  return {message(groups, " groups, ", inputs[0].shape, " to ", out), inputs,
          [=](const Tensors& t) {
            return Tensors{grouped_mm(t[0], t[1], offsets_of(offsets, t[0].device()), bias ? t[2] : Tensor())};
          },
          [=](const Arrays& a) { return Arrays{grouped_of(a, offsets)}; }};
}

std::vector<OpCase> cases() {
  return {grouped_case({0, 1}, 1, 1, true),          grouped_case({0, 0, 0}, 3, 2, true),
          grouped_case({0, 3, 3, 7}, 5, 4, true),    grouped_case({0, 2, 5}, 0, 3, true),
          grouped_case({0, 0, 9, 20}, 7, 18, false), grouped_case({0, 75, 80}, 3, 5, true)};
}

// `groups` groups, of which every `every`th has rows: 1, 2, ... modulo `most`, but `most` in the last.
std::vector<int32_t> sparse_groups(int32_t groups, int32_t every, int32_t most) {
  std::vector<int32_t> offsets = {0};
  for (int32_t e = 0; e < groups; ++e) {
    const int32_t rows = e == groups - 1 ? most : e % every == 0 ? (37 * (e / every) + 1) % most : 0;
    offsets.push_back(offsets.back() + rows);
  }
  return offsets;
}

std::vector<OpCase> device_cases() {
  struct Widths {
    int64_t in, out;
  };
  std::vector<OpCase> list;
  // Multiples of 8, which the tensor cores take, and others; with and without a bias.
  for (const auto& [in, out] : {Widths{8, 8},
                                {128, 136},
                                {136, 64},
                                {64, 256},
                                {40, 24},
                                {16, 1},
                                {1, 16},
                                {130, 136},
                                {136, 130},
                                {31, 33},
                                {129, 127},
                                {65, 8},
                                {8, 65}}) {
    list.push_back(grouped_case(sparse_groups(5, 1, 64), in, out, in % 3 != 1));
    list.push_back(grouped_case({0, 0, 129, 129, 130, 258, 258}, in, out, in % 3 == 1));
  }
  list.push_back(grouped_case({0, 128}, 130, 136, true));
  list.push_back(grouped_case({0, 1, 2, 3, 4}, 256, 128, true));
  list.push_back(grouped_case({0, 0, 0, 0, 0, 1025, 1025}, 72, 80, true));
  list.push_back(grouped_case({0, 2000, 2001, 2008, 2008, 2023}, 32, 40, false));
  for (const int32_t groups : {64, 128, 300}) {
    list.push_back(grouped_case(sparse_groups(groups, 7, 9), 16, 24, true));
    list.push_back(grouped_case(sparse_groups(groups, 3, 33), 13, 11, true));
    list.push_back(grouped_case(sparse_groups(groups, 1000, 40), 32, 8, false));  // all but two are empty
    list.push_back(grouped_case(std::vector<int32_t>(static_cast<size_t>(groups) + 1), 16, 8, true));
  }
  return list;
}

const OpSpec grouped_mm_spec("grouped_mm", cases, {.device_cases = device_cases});

BOOST_AUTO_TEST_SUITE(grouped_mm)

BOOST_AUTO_TEST_CASE(names_operands_that_do_not_fit) {
  const Tensor x = zeros({6, 4}), weight = zeros({2, 3, 4});
  const auto call = [&](const std::vector<int32_t>& offsets) { mahia::grouped_mm(x, weight, offsets_of(offsets)); };
  check_throws<IndexError>([&] { call({0, 4, 3}); }, "grouped_mm: offsets descend at 1: 4 to 3");
  check_throws<IndexError>(
      [&] {
        call({0, 4, 5});
      },
      "grouped_mm: offsets go from 0 to 5, must go from 0 to the number of rows, 6");
  check_throws<ShapeError>(
      [&] {
        call({0, 6});
      },
      "grouped_mm: weight (E, out, in) and offsets (E + 1) disagree on `E`: weight f32 [2, 3, 4] "
      "cpu:0, offsets i32 [2] cpu:0");
  check_throws<ShapeError>(
      [&] {
        mahia::grouped_mm(x, zeros({2, 3, 5}), offsets_of({0, 1, 6}));
      },
      "grouped_mm: x (N, in) and weight (E, out, in) disagree: x f32 [6, 4] cpu:0, weight f32 "
      "[2, 3, 5] cpu:0");
  check_throws<DTypeError>([&] { mahia::grouped_mm(x, weight, arange(3)); },
                           "grouped_mm: offsets must be i32: offsets i64 [3] cpu:0");
}

BOOST_AUTO_TEST_CASE(a_row_has_the_bits_of_its_own_linear_map_wherever_it_stands) {
  const Tensor x = randn({200, 96}), weight = randn({3, 70, 96});
  const Tensor y = mahia::grouped_mm(x, weight, offsets_of({0, 131, 131, 200}));
  check_same_bits(contiguous(narrow(y, 0, 0, 131)), linear(narrow(x, 0, 0, 131), select(weight, 0, 0)));
  check_same_bits(contiguous(narrow(y, 0, 150, 1)), linear(narrow(x, 0, 150, 1), select(weight, 0, 2)));
}

BOOST_AUTO_TEST_CASE(an_empty_group_gets_a_gradient_of_zeros) {
  const Tensor x = randn({5, 4});
  const Tensor weight = randn({3, 2, 4}).set_requires_grad(true), bias = randn({3, 2}).set_requires_grad(true);
  backward(sum(mahia::grouped_mm(x, weight, offsets_of({0, 2, 2, 5}), bias)));
  check_same_bits(contiguous(select(weight.grad(), 0, 1)), zeros({2, 4}));
  check_same_bits(contiguous(select(bias.grad(), 0, 1)), zeros({2}));
  check_same_bits(contiguous(select(bias.grad(), 0, 2)), full({2}, 3));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
