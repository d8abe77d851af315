// SPDX-License-Identifier: Apache-2.0
#include "ops/cat.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "core/factory.hpp"
#include "ops/shape.hpp"
#include "tests/support/places.hpp"

namespace mahia::tests {
namespace {

const auto each = boost::test_tools::per_element();

Array cat_of(const Arrays& xs, int axis) {
  Shape shape = xs[0].shape;
  for (size_t k = 1; k < xs.size(); ++k) shape[axis] += xs[k].shape[axis];
  Array y(shape);
  int64_t start = 0;
  for (const Array& x : xs) {
    for (int64_t i = 0; i < x.size(); ++i) {
      Shape place = place_of(x.shape, i);
      place[axis] += start;
      y[index_of(shape, place)] = x[i];
    }
    start += x.shape[axis];
  }
  return y;
}

OpCase cat_case(const std::vector<Shape>& shapes, int64_t axis) {
  OpCase c{message("axis ", axis), {}, [=](const Tensors& xs) { return Tensors{cat(xs, axis)}; }, {}};
  for (const Shape& shape : shapes) {
    c.name += message(" ", shape);
    c.inputs.push_back({shape});
  }
  c.reference = [=](const Arrays& xs) { return Arrays{cat_of(xs, axis_of(axis, xs[0].shape.rank()))}; };
  return c;
}

std::vector<OpCase> cat_cases() {
  std::vector<OpCase> list = {cat_case({{1}}, 0),
                              cat_case({{1}, {1}}, 0),
                              cat_case({{3, 0}, {3, 2}}, 1),
                              cat_case({{0, 4}, {0, 4}}, 0),
                              cat_case({{7}, {0}, {2}}, 0),
                              cat_case({{2, 3}, {4, 3}}, 0),
                              cat_case({{2, 3}, {2, 1}, {2, 5}}, -1),
                              cat_case({{2, 3, 4}, {2, 2, 4}, {2, 1, 4}}, 1),
                              cat_case({{2, 3, 2, 3}, {2, 3, 2, 2}}, 3)};
  list.push_back({"a tensor with itself",
                  {{{2, 3}}},
                  [](const Tensors& x) {
                    return Tensors{cat({x[0], x[0]}, 1)};
                  },
                  [](const Arrays& x) {
                    return Arrays{cat_of({x[0], x[0]}, 1)};
                  }});
  return and_with_reversed_axes(list);
}

std::vector<OpCase> cat_device_cases() {
  return and_with_reversed_axes({cat_case({{257, 129}, {257, 65}}, 1), cat_case({{65537, 3}, {1, 3}}, 0),
                                 cat_case({{31, 33, 32}, {31, 1, 32}, {31, 127, 32}}, 1),
                                 cat_case(std::vector<Shape>(37, {5, 11}), 0)});
}

OpCase stack_case(const Shape& shape, size_t count, int64_t axis) {
  return {message(count, " times ", shape, " axis ", axis), std::vector<Input>(count, {shape}),
          [=](const Tensors& xs) { return Tensors{stack(xs, axis)}; },
          [=](Arrays xs) {
            const int a = axis_of(axis, shape.rank() + 1);
            for (Array& x : xs) x.shape.insert(a, 1);
            return Arrays{cat_of(xs, a)};
          }};
}

std::vector<OpCase> stack_cases() {
  return and_with_reversed_axes({stack_case({}, 3, 0), stack_case({1}, 1, 1), stack_case({3, 0}, 2, 1),
                                 stack_case({7}, 3, 0), stack_case({7}, 3, 1), stack_case({2, 3}, 4, 0),
                                 stack_case({2, 3}, 4, 1), stack_case({2, 3}, 4, -1), stack_case({2, 3, 4}, 2, -3)});
}

std::vector<OpCase> stack_device_cases() {
  return and_with_reversed_axes(
      {stack_case({257, 129}, 3, 1), stack_case({65537, 3}, 2, 2), stack_case({31, 33, 32}, 2, 0)});
}

OpCase flip_case(const Shape& shape, const Shape& axes) {
  return {message(shape, " along ", axes),
          {{shape}},
          [=](const Tensors& x) { return Tensors{flip(x[0], axes)}; },
          [=](const Arrays& x) {
            return Arrays{picked(x[0], shape, [&](Shape place) {
              for (const int64_t axis : axes) {
                const int a = axis_of(axis, shape.rank());
                place[a] = shape[a] - 1 - place[a];
              }
              return place;
            })};
          }};
}

std::vector<OpCase> flip_cases() {
  return and_with_reversed_axes({flip_case({}, {}), flip_case({1}, {0}), flip_case({3, 0}, {0, 1}), flip_case({7}, {0}),
                                 flip_case({5, 6}, {}), flip_case({5, 6}, {0}), flip_case({5, 6}, {1}),
                                 flip_case({5, 6}, {1, 0}), flip_case({2, 3, 4}, {-1}), flip_case({2, 3, 4}, {0, -1}),
                                 flip_case({2, 3, 2, 3}, {1, 2})});
}

std::vector<OpCase> flip_device_cases() {
  return and_with_reversed_axes(
      {flip_case({257, 129}, {1}), flip_case({1025, 3}, {0}), flip_case({31, 33, 32}, {0, 2})});
}

OpCase pad_case(const Shape& shape, const Shape& pads, double value = 0) {
  Shape padded = shape;
  for (int i = 0; i < pads.rank(); ++i) padded[shape.rank() - 1 - i / 2] += pads[i];
  return {message(shape, " by ", pads, " with ", value),
          {{shape}},
          [=](const Tensors& x) { return Tensors{pad(x[0], pads, value)}; },
          [=](const Arrays& x) {
            Array y(padded);
            for (int64_t i = 0; i < y.size(); ++i) {
              Shape place = place_of(padded, i);
              bool inside = true;
              for (int axis = 0; axis < shape.rank(); ++axis) {
                const int at = 2 * (shape.rank() - 1 - axis);
                place[axis] -= at < pads.rank() ? pads[at] : 0;
                inside = inside && place[axis] >= 0 && place[axis] < shape[axis];
              }
              y[i] = inside ? x[0][index_of(shape, place)] : value;
            }
            return Arrays{y};
          }};
}

std::vector<OpCase> pad_cases() {
  return and_with_reversed_axes({pad_case({1}, {0, 0}), pad_case({1}, {2, 3}, 0.5), pad_case({1}, {-1, 2}, -1),
                                 pad_case({3, 0}, {1, 1}), pad_case({3, 0}, {0, 0, -1, -2}), pad_case({7}, {-2, 3}),
                                 pad_case({7}, {-3, -4}), pad_case({5, 6}, {}), pad_case({5, 6}, {1, 2}, 1.5),
                                 pad_case({5, 6}, {-1, -2}), pad_case({5, 6}, {0, 1, 2, 0}, -2),
                                 pad_case({5, 6}, {-2, 1, 3, -4}, 3), pad_case({2, 3, 4}, {0, 0, 1, -1}),
                                 pad_case({2, 3, 4}, {1, 1, 2, 2, 0, 1}, 0.25)});
}

std::vector<OpCase> pad_device_cases() {
  return and_with_reversed_axes({pad_case({257, 129}, {31, -1}), pad_case({65537, 3}, {1, 1, -3, 2}, 0.5),
                                 pad_case({31, 33, 32}, {0, 32, -1, -1}, 2)});
}

const OpSpec cat_spec("cat", cat_cases, {.device_cases = cat_device_cases});
const OpSpec stack_spec("stack", stack_cases, {.device_cases = stack_device_cases});
const OpSpec flip_spec("flip", flip_cases, {.device_cases = flip_device_cases});
const OpSpec pad_spec("pad", pad_cases, {.device_cases = pad_device_cases});

BOOST_AUTO_TEST_SUITE(cat)

BOOST_AUTO_TEST_CASE(the_result_is_new_memory_of_the_same_dtype) {
  for (const DType dtype : {DType::f16, DType::i64, DType::i32, DType::u8, DType::boolean}) {
    const Tensor x = full({2, 3}, 1, dtype);
    for (const Tensor& y : {mahia::cat({x}), mahia::stack({x}), mahia::flip(x, {}), mahia::pad(x, {0, 0})}) {
      BOOST_TEST((y.dtype() == dtype));
      BOOST_TEST((y.storage() != x.storage()));
      BOOST_TEST(y.to_vector<int64_t>() == std::vector<int64_t>(6, 1), each);
    }
  }
}

BOOST_AUTO_TEST_CASE(flipping_twice_and_cropping_what_was_padded_change_nothing) {
  const Tensor x = randn({3, 5, 7});
  check_same_bits(mahia::flip(mahia::flip(x, {2, 0}), {0, 2}), x);
  check_same_bits(mahia::pad(mahia::pad(x, {3, 1, 0, 2}, NAN), {-3, -1, 0, -2}), x);
  check_same_bits(mahia::cat(split(x, {1, 4, 2}, 2), 2), x);
}

BOOST_AUTO_TEST_CASE(errors_name_the_op_and_the_operands) {
  const Tensor x = zeros({2, 3}), y = zeros({2, 4}), whole = arange(3);
  check_throws<ValueError>([] { mahia::cat({}); }, "cat: needs at least one tensor");
  check_throws<IndexError>([&] { mahia::cat({x}, 2); }, "cat: axis 2 is out of range for a tensor of 2 axes");
  check_throws<IndexError>([] { mahia::cat({scalar(1)}); }, "cat: axis 0 is out of range for a tensor of 0 axes");
  check_throws<DTypeError>([&] { mahia::cat({x, whole}); }, "cat: dtypes differ: f32 [2, 3] cpu:0 and i64 [3] cpu:0");
  check_throws<ShapeError>(
      [&] {
        mahia::cat({x, zeros({3})});
      },
      "cat: ranks differ: f32 [2, 3] cpu:0 and f32 [3] cpu:0");
  check_throws<ShapeError>(
      [&] {
        mahia::cat({x, y});
      },
      "cat: sizes off axis 0 differ: f32 [2, 3] cpu:0 and f32 [2, 4] cpu:0");
  check_throws<ValueError>([] { mahia::stack({}); }, "stack: needs at least one tensor");
  check_throws<IndexError>([&] { mahia::stack({x}, 3); }, "stack: axis 3 is out of range for a tensor of 3 axes");
  check_throws<ShapeError>(
      [&] {
        mahia::stack({x, y});
      },
      "stack: shapes differ: f32 [2, 3] cpu:0 and f32 [2, 4] cpu:0");
  check_throws<IndexError>([&] { mahia::flip(x, {-3}); }, "flip: axis -3 is out of range for a tensor of 2 axes");
  check_throws<ValueError>([&] { mahia::flip(x, {0, 0}); }, "flip: axis 0 appears twice in [0, 0]: f32 [2, 3] cpu:0");
  check_throws<ValueError>([&] { mahia::flip(x, {1, -1}); }, "flip: axis -1 appears twice in [1, -1]");
}

BOOST_AUTO_TEST_CASE(pads_come_in_pairs_and_crop_what_is_there) {
  const Tensor x = zeros({2, 3});
  const auto refuses = [&](const Shape& pads, const std::string& text) {
    check_throws<ShapeError>([&] { mahia::pad(x, pads); }, "pad: " + text);
  };
  refuses({1}, "needs (left, right) for at most 2 axes, got [1] for f32 [2, 3] cpu:0");
  refuses({1, 1, 1, 1, 1, 1}, "needs (left, right) for at most 2 axes, got [1, 1, 1, 1, 1, 1] for f32 [2, 3] cpu:0");
  refuses({-2, -2}, "[-2, -2] crops more than axis 1 of f32 [2, 3] cpu:0");
  refuses({0, 0, 5, -3}, "[0, 0, 5, -3] crops more than axis 0 of f32 [2, 3] cpu:0");
  refuses({-4, 9}, "[-4, 9] crops more than axis 1 of f32 [2, 3] cpu:0");
  refuses({INT64_MIN, INT64_MIN}, "[-9223372036854775808, -9223372036854775808] crops more than axis 1");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
