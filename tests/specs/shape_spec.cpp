// SPDX-License-Identifier: Apache-2.0
#include "ops/shape.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>

#include "autograd/backward.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/reduce.hpp"
#include "tests/support/places.hpp"

namespace mahia::tests {
namespace {

// An op's numbers after x, in the order of its declaration unless a comment says otherwise.
struct Row {
  Shape shape, numbers;
};
using Rows = std::vector<Row>;
using Call = Tensors (*)(const Tensor& x, const Shape& n);
using Reference = Arrays (*)(const Array& x, const Shape& n);

std::vector<OpCase> cases(Call call, Reference reference, const Rows& rows) {
  std::vector<OpCase> list;
  for (const Row& r : rows) {
    list.push_back({message(r.shape, " with ", r.numbers),
                    {{r.shape}},
                    [=](const Tensors& x) { return call(x[0], r.numbers); },
                    [=](const Arrays& x) { return reference(x[0], r.numbers); }});
  }
  return and_with_reversed_axes(list);
}

// The same elements in the same order.
Array seen_as(Array x, const Shape& shape) {
  x.shape = shape;
  return x;
}

Array part_of(const Array& x, int axis, int64_t start, int64_t length) {
  Shape shape = x.shape;
  shape[axis] = length;
  return picked(x, shape, [&](Shape place) {
    place[axis] += start;
    return place;
  });
}

Arrays parts_of(const Array& x, int axis, const std::vector<int64_t>& sizes) {
  Arrays parts;
  int64_t start = 0;
  for (const int64_t size : sizes) {
    parts.push_back(part_of(x, axis, start, size));
    start += size;
  }
  return parts;
}

// n in pieces of `size`, the last with what is left.
std::vector<int64_t> pieces_of(int64_t n, int64_t size) {
  std::vector<int64_t> sizes;
  for (int64_t start = 0; start < n; start += size) sizes.push_back(std::min(size, n - start));
  return sizes.empty() ? std::vector<int64_t>{0} : sizes;
}

Tensors call_contiguous(const Tensor& x, const Shape&) { return {contiguous(x)}; }
Arrays same(const Array& x, const Shape&) { return {x}; }
const Rows contiguous_rows = {{{}, {}},        {{1}, {}},          {{3, 0}, {}},    {{7}, {}},
                              {{5, 6}, {}},    {{2, 3, 4}, {}},    {{9, 1, 5}, {}}, {{1, 17}, {}},
                              {{4, 1, 1}, {}}, {{2, 3, 2, 3}, {}}, {{33, 3}, {}}};
const Rows contiguous_large = {{{257, 129}, {}}, {{65537, 3}, {}}, {{31, 33, 32}, {}}, {{2, 3, 4, 5, 33}, {}}};

Tensors call_reshape(const Tensor& x, const Shape& n) { return {reshape(x, n)}; }
Arrays reshape_of(const Array& x, const Shape& n) {
  Shape shape = n;
  int64_t known = 1;
  for (const int64_t size : shape) known *= size;
  for (int i = 0; i < shape.rank(); ++i) shape[i] = shape[i] == -1 ? x.size() / -known : shape[i];
  return {seen_as(x, shape)};
}
const Rows reshape_rows = {{{1}, {}},           {{}, {1, 1}},         {{0, 3}, {3, 0, 2}},      {{7}, {7, 1}},
                           {{2, 3, 4}, {-1}},   {{2, 3, 4}, {6, 4}},  {{2, 3, 4}, {2, 12}},     {{2, 3, 4}, {4, -1, 2}},
                           {{6, 4}, {2, 3, 4}}, {{6, 4}, {3, 2, -1}}, {{1, 5, 1}, {5, 1, 1, 1}}};
const Rows reshape_large = {{{257, 129}, {129, 257}}, {{65537, 3}, {3, -1}}, {{31, 33, 32}, {1023, 32}}};

Tensors call_flatten(const Tensor& x, const Shape& n) { return {flatten(x, n[0], n[1])}; }
Arrays flatten_of(const Array& x, const Shape& n) {
  if (x.shape.rank() == 0) return {seen_as(x, {1})};
  const int first = axis_of(n[0], x.shape.rank()), last = axis_of(n[1], x.shape.rank());
  Shape shape = x.shape;
  for (int i = first; i < last; ++i) {
    shape[first] *= shape[first + 1];
    shape.erase(first + 1);
  }
  return {seen_as(x, shape)};
}
const Rows flatten_rows = {{{}, {0, -1}},        {{1}, {0, 0}},         {{3, 0, 2}, {0, 1}},   {{5, 6}, {0, -1}},
                           {{2, 3, 4}, {0, -1}}, {{2, 3, 4}, {1, 2}},   {{2, 3, 4}, {-3, -2}}, {{2, 3, 4}, {1, 1}},
                           {{1, 7}, {0, 1}},     {{2, 3, 2, 3}, {1, 2}}};
const Rows flatten_large = {{{257, 129}, {0, 1}}, {{31, 33, 32}, {1, 2}}, {{3, 5, 7, 11, 13}, {1, 3}}};

Tensors call_permute(const Tensor& x, const Shape& n) { return {permute(x, n)}; }
Arrays permute_of(const Array& x, const Shape& axes) {
  Shape shape = axes;
  for (int i = 0; i < axes.rank(); ++i) shape[i] = x.shape[axis_of(axes[i], axes.rank())];
  return {picked(x, shape, [&](const Shape& place) {
    Shape from = place;
    for (int i = 0; i < axes.rank(); ++i) from[axis_of(axes[i], axes.rank())] = place[i];
    return from;
  })};
}
const Rows permute_rows = {{{}, {}},
                           {{1}, {0}},
                           {{3, 0, 2}, {2, 0, 1}},
                           {{5, 6}, {1, 0}},
                           {{2, 3, 4}, {2, 0, 1}},
                           {{2, 3, 4}, {1, 2, 0}},
                           {{2, 3, 4}, {-1, 0, -2}},
                           {{2, 1, 3, 4}, {3, 1, 0, 2}}};
const Rows permute_large = {{{257, 129}, {1, 0}}, {{31, 33, 32}, {1, 2, 0}}, {{3, 5, 7, 11, 13}, {4, 2, 0, 3, 1}}};

Tensors call_transpose(const Tensor& x, const Shape& n) { return {transpose(x, n[0], n[1])}; }
Arrays transpose_of(const Array& x, const Shape& n) {
  const auto swapped = [a = axis_of(n[0], x.shape.rank()), b = axis_of(n[1], x.shape.rank())](Shape s) {
    std::swap(s[a], s[b]);
    return s;
  };
  return {picked(x, swapped(x.shape), swapped)};
}
const Rows transpose_rows = {{{1}, {0, 0}},       {{3, 0}, {0, 1}},    {{5, 6}, {0, 1}},
                             {{5, 6}, {1, 1}},    {{2, 3, 4}, {0, 2}}, {{2, 3, 4}, {-1, -2}},
                             {{2, 3, 4}, {1, 0}}, {{1, 9}, {0, 1}},    {{2, 3, 2, 5}, {1, 3}}};
const Rows transpose_large = {{{257, 129}, {0, 1}}, {{31, 33, 32}, {1, 2}}, {{3, 5, 7, 11, 13}, {0, 4}}};

Tensors call_unsqueeze(const Tensor& x, const Shape& n) { return {unsqueeze(x, n[0])}; }
Arrays unsqueeze_of(const Array& x, const Shape& n) {
  Shape shape = x.shape;
  shape.insert(axis_of(n[0], shape.rank() + 1), 1);
  return {seen_as(x, shape)};
}
const Rows unsqueeze_rows = {{{}, {0}},     {{1}, {1}},     {{3, 0}, {1}},     {{7}, {0}},       {{5, 6}, {0}},
                             {{5, 6}, {1}}, {{5, 6}, {-1}}, {{2, 3, 4}, {-2}}, {{2, 3, 4}, {2}}, {{1, 9}, {-3}}};
const Rows unsqueeze_large = {{{257, 129}, {1}}, {{31, 33, 32}, {3}}, {{65537, 3}, {0}}};

Tensors call_squeeze(const Tensor& x, const Shape& n) { return {squeeze(x, n[0])}; }
Arrays squeeze_of(const Array& x, const Shape& n) {
  Shape shape = x.shape;
  shape.erase(axis_of(n[0], shape.rank()));
  return {seen_as(x, shape)};
}
const Rows squeeze_rows = {{{1}, {0}},        {{1, 0}, {0}},    {{1, 7}, {0}},    {{7, 1}, {1}},       {{5, 1, 6}, {1}},
                           {{5, 1, 6}, {-2}}, {{1, 3, 1}, {0}}, {{1, 3, 1}, {2}}, {{2, 3, 1, 4}, {-2}}};
const Rows squeeze_large = {{{257, 1, 129}, {1}}, {{31, 33, 1}, {-1}}, {{1, 65537, 3}, {0}}};

Tensors call_expand(const Tensor& x, const Shape& n) { return {expand(x, n)}; }
Arrays expand_of(const Array& x, const Shape& n) {
  Shape shape = n;
  const int lead = shape.rank() - x.shape.rank();
  for (int i = lead; i < shape.rank(); ++i) shape[i] = shape[i] == -1 ? x.shape[i - lead] : shape[i];
  return {picked(x, shape, [&](const Shape& place) {
    Shape from = x.shape;
    for (int i = 0; i < from.rank(); ++i) from[i] = x.shape[i] == 1 ? 0 : place[i + lead];
    return from;
  })};
}
const Rows expand_rows = {{{}, {3}},
                          {{1}, {5}},
                          {{1}, {1}},
                          {{1}, {2, 0}},
                          {{0, 1}, {0, 4}},
                          {{5, 1}, {5, 6}},
                          {{5, 6}, {2, -1, -1}},
                          {{1, 6}, {4, 6}},
                          {{2, 1, 4}, {2, 3, 4}},
                          {{2, 1, 4}, {-1, 3, -1}},
                          {{7}, {3, 1, 7}},
                          {{1, 1}, {3, 5}}};
const Rows expand_large = {{{257, 1}, {257, 129}}, {{1, 129}, {3, 257, 129}}, {{31, 1, 32}, {31, 33, 32}}};

Tensors call_narrow(const Tensor& x, const Shape& n) { return {narrow(x, n[0], n[1], n[2])}; }
Arrays narrow_of(const Array& x, const Shape& n) { return {part_of(x, axis_of(n[0], x.shape.rank()), n[1], n[2])}; }
const Rows narrow_rows = {{{1}, {0, 0, 1}},         {{3, 0}, {1, 0, 0}},    {{7}, {0, 2, 4}},
                          {{7}, {0, 7, 0}},         {{5, 6}, {0, 1, 3}},    {{5, 6}, {1, 0, 5}},
                          {{5, 6}, {-1, 5, 1}},     {{2, 3, 4}, {1, 1, 2}}, {{2, 3, 4}, {-3, 1, 1}},
                          {{2, 3, 2, 5}, {3, 1, 3}}};
const Rows narrow_large = {{{257, 129}, {1, 31, 65}}, {{31, 33, 32}, {1, 1, 31}}, {{65537, 3}, {0, 1, 65535}}};

Tensors call_select(const Tensor& x, const Shape& n) { return {select(x, n[0], n[1])}; }
Arrays select_of(const Array& x, const Shape& n) {
  const int axis = axis_of(n[0], x.shape.rank());
  return squeeze_of(part_of(x, axis, axis_of(n[1], static_cast<int>(x.shape[axis])), 1), {axis});
}
const Rows select_rows = {{{1}, {0, 0}},       {{3, 0}, {0, 1}},     {{7}, {0, -1}},
                          {{5, 6}, {0, 4}},    {{5, 6}, {1, 0}},     {{5, 6}, {-1, -6}},
                          {{2, 3, 4}, {1, 2}}, {{2, 3, 4}, {-3, 1}}, {{2, 3, 2, 5}, {2, -1}}};
const Rows select_large = {{{257, 129}, {1, 128}}, {{31, 33, 32}, {0, 17}}, {{65537, 3}, {1, 1}}};

// numbers: the axis, then one size for all pieces, or the size of each.
Tensors call_split(const Tensor& x, const Shape& n) {
  if (n.rank() == 2) return split(x, n[1], n[0]);
  return split(x, std::vector<int64_t>(n.begin() + 1, n.end()), n[0]);
}
Arrays split_of(const Array& x, const Shape& n) {
  const int axis = axis_of(n[0], x.shape.rank());
  if (n.rank() == 2) return parts_of(x, axis, pieces_of(x.shape[axis], n[1]));
  return parts_of(x, axis, {n.begin() + 1, n.end()});
}
const Rows split_rows = {{{1}, {0, 1}},           {{3, 0}, {1, 2}},         {{7}, {0, 3}},        {{7}, {0, 9}},
                         {{5, 6}, {0, 2}},        {{5, 6}, {1, 1, 2, 3}},   {{5, 6}, {-1, 0, 6}}, {{2, 3, 4}, {2, 2}},
                         {{2, 3, 4}, {-2, 2, 1}}, {{2, 6, 3}, {1, 3, 0, 3}}};
const Rows split_large = {{{257, 129}, {1, 32}}, {{31, 33, 32}, {1, 1, 32}}, {{65537, 3}, {0, 20000}}};

// numbers: the axis, how many.
Tensors call_chunk(const Tensor& x, const Shape& n) { return chunk(x, n[1], n[0]); }
Arrays chunk_of(const Array& x, const Shape& n) {
  const int axis = axis_of(n[0], x.shape.rank());
  const int64_t size = x.shape[axis];
  if (size == 0) return parts_of(x, axis, std::vector<int64_t>(static_cast<size_t>(n[1]), 0));
  return parts_of(x, axis, pieces_of(size, (size + n[1] - 1) / n[1]));
}
const Rows chunk_rows = {{{1}, {0, 1}},        {{3, 0}, {1, 2}},   {{7}, {0, 3}},     {{7}, {0, 9}},
                         {{5, 6}, {0, 2}},     {{5, 6}, {1, 4}},   {{5, 6}, {-1, 6}}, {{2, 3, 4}, {2, 3}},
                         {{2, 3, 4}, {-2, 2}}, {{2, 6, 3}, {1, 4}}};
const Rows chunk_large = {{{257, 129}, {1, 4}}, {{31, 33, 32}, {1, 5}}, {{65537, 3}, {0, 3}}};

OpSpec spec_of(const char* name, Call call, Reference reference, const Rows& rows, const Rows& large) {
  return OpSpec(name, [=, &rows] { return cases(call, reference, rows); },
                {.device_cases = [=, &large] { return cases(call, reference, large); }});
}
const OpSpec contiguous_spec = spec_of("contiguous", call_contiguous, same, contiguous_rows, contiguous_large);
const OpSpec reshape_spec = spec_of("reshape", call_reshape, reshape_of, reshape_rows, reshape_large);
const OpSpec flatten_spec = spec_of("flatten", call_flatten, flatten_of, flatten_rows, flatten_large);
const OpSpec permute_spec = spec_of("permute", call_permute, permute_of, permute_rows, permute_large);
const OpSpec transpose_spec = spec_of("transpose", call_transpose, transpose_of, transpose_rows, transpose_large);
const OpSpec unsqueeze_spec = spec_of("unsqueeze", call_unsqueeze, unsqueeze_of, unsqueeze_rows, unsqueeze_large);
const OpSpec squeeze_spec = spec_of("squeeze", call_squeeze, squeeze_of, squeeze_rows, squeeze_large);
const OpSpec expand_spec = spec_of("expand", call_expand, expand_of, expand_rows, expand_large);
const OpSpec narrow_spec = spec_of("narrow", call_narrow, narrow_of, narrow_rows, narrow_large);
const OpSpec select_spec = spec_of("select", call_select, select_of, select_rows, select_large);
const OpSpec split_spec = spec_of("split", call_split, split_of, split_rows, split_large);
const OpSpec chunk_spec = spec_of("chunk", call_chunk, chunk_of, chunk_rows, chunk_large);

const auto each = boost::test_tools::per_element();

BOOST_AUTO_TEST_SUITE(shape)

BOOST_AUTO_TEST_CASE(a_view_shares_the_memory_of_its_tensor) {
  const Tensor x = arange(24, DType::f32), cube = reshape(x, {2, 3, 4});
  Tensors views = {cube,
                   reshape(cube, {6, -1}),
                   flatten(cube, 1),
                   permute(cube, {2, 0, 1}),
                   transpose(cube, 0, 2),
                   unsqueeze(cube, 1),
                   squeeze(reshape(x, {24, 1}), 1),
                   expand(unsqueeze(cube, 0), {5, -1, -1, -1}),
                   narrow(cube, 2, 1, 2),
                   select(cube, 0, -1),
                   contiguous(cube)};
  for (const Tensors& pieces : {split(cube, 2, 2), split(cube, {1, 2}, 1), chunk(cube, 2, 2)}) {
    views.insert(views.end(), pieces.begin(), pieces.end());
  }
  fill(x, 7);
  for (const Tensor& y : views) {
    BOOST_TEST((y.storage() == x.storage()));
    const auto values = y.to_vector<float>();
    BOOST_TEST(std::ranges::count(values, 7.0f) == y.numel(), message(y));
  }
}

BOOST_AUTO_TEST_CASE(reshape_and_contiguous_copy_only_what_no_strides_can_show) {
  const Tensor x = reshape(arange(24), {2, 3, 4}), turned = permute(x, {2, 0, 1}), cut = narrow(x, 2, 0, 2);
  const auto shares = [&](const Tensor& y) { return y.storage() == x.storage(); };
  BOOST_TEST(!shares(reshape(turned, {24})));
  BOOST_TEST(!shares(reshape(cut, {12})));
  BOOST_TEST(!shares(contiguous(turned)));
  BOOST_TEST(shares(reshape(turned, {4, 6})));  // the axes 2 and 3 of x lie one in the other
  BOOST_TEST(shares(reshape(cut, {6, 2})));
  BOOST_TEST(contiguous(x).is_same(x));
  BOOST_TEST(reshape(turned, {24}).to_vector<int64_t>() == turned.to_vector<int64_t>(), each);
}

BOOST_AUTO_TEST_CASE(chunk_sizes_are_those_of_pytorch) {
  const auto sizes = [](int64_t n, int64_t chunks) {
    std::vector<int64_t> list;
    for (const Tensor& piece : chunk(arange(n), chunks)) list.push_back(piece.numel());
    return list;
  };
  using Sizes = std::vector<int64_t>;
  BOOST_TEST(sizes(10, 4) == (Sizes{3, 3, 3, 1}), each);
  BOOST_TEST(sizes(6, 4) == (Sizes{2, 2, 2}), each);
  BOOST_TEST(sizes(3, 7) == (Sizes{1, 1, 1}), each);
  BOOST_TEST(sizes(0, 3) == (Sizes{0, 0, 0}), each);
  BOOST_TEST(sizes(5, INT64_MAX) == (Sizes{1, 1, 1, 1, 1}), each);
  BOOST_TEST(split(arange(0), 3).size() == 1u);
}

BOOST_AUTO_TEST_CASE(pieces_that_nobody_uses_get_a_gradient_of_zero) {
  Tensor x = zeros({5}, DType::f64);
  x.set_requires_grad(true);
  backward(sum(split(x, 2)[1]));
  BOOST_TEST(x.grad().to_vector<double>() == (std::vector<double>{0, 0, 1, 1, 0}), each);
  backward(sum(expand(narrow(x, 0, 4, 1), {3})));
  BOOST_TEST(x.grad().to_vector<double>() == (std::vector<double>{0, 0, 1, 1, 3}), each);
}

BOOST_AUTO_TEST_CASE(every_dtype_keeps_its_kind) {
  for (const DType dtype : {DType::f16, DType::i64, DType::i32, DType::u8, DType::boolean}) {
    const Tensor x = reshape(full({6}, 1, dtype), {2, 3});
    for (const Tensor& y : {flatten(transpose(x, 0, 1)), contiguous(expand(select(x, 0, 1), {2, 3}))}) {
      BOOST_TEST((y.dtype() == dtype));
      BOOST_TEST(y.to_vector<int64_t>() == std::vector<int64_t>(6, 1), each);
    }
  }
}

BOOST_AUTO_TEST_CASE(shapes_with_more_elements_than_can_be_counted_are_refused) {
  constexpr int64_t huge = int64_t{1} << 40;
  const auto refuses = [](const Tensor& x, const Shape& shape) {
    check_throws<ShapeError>([&] { reshape(x, shape); }, "more than 2^63 elements in [");
  };
  refuses(zeros({0}), {0, huge, huge});
  refuses(zeros({0}), {huge, huge, 0});
  refuses(zeros({2}), {huge, huge});
  refuses(zeros({2}), {huge, -1, huge});
  check_throws<ShapeError>([&] { expand(zeros({1}), {huge, huge}); }, "more than 2^63 elements in [");
}

BOOST_AUTO_TEST_CASE(errors_of_shapes_name_the_op_and_the_operand) {
  const Tensor x = zeros({2, 3}), full_rank = zeros({1, 1, 1, 1, 1, 1, 1, 1});
  const auto throws = [](auto&& fn, const char* text) { check_throws<ShapeError>(fn, text); };
  throws([&] { reshape(x, {-1, -1}); }, "reshape: bad shape [-1, -1] for f32 [2, 3] cpu:0");
  throws([&] { reshape(x, {-2, 3}); }, "reshape: bad shape [-2, 3] for f32 [2, 3] cpu:0");
  throws([&] { reshape(zeros({0, 3}), {0, -1}); }, "reshape: -1 is ambiguous in [0, -1] for f32 [0, 3] cpu:0");
  throws([&] { reshape(x, {4}); }, "reshape: f32 [2, 3] cpu:0 does not have the 4 elements of [4]");
  throws([&] { reshape(x, {4, -1}); }, "reshape: f32 [2, 3] cpu:0 does not have the 4 elements of [4, 1]");
  throws([&] { permute(x, {0}); }, "permute: axes [0] for f32 [2, 3] cpu:0");
  throws([&] { unsqueeze(full_rank, 0); }, "shape: more than 8 axes");
  throws([&] { squeeze(x, -1); }, "squeeze: axis 1 has size 3, not 1: f32 [2, 3] cpu:0");
  throws([&] { expand(x, {3}); }, "expand: f32 [2, 3] cpu:0 has more axes than [3]");
  throws([&] { expand(x, {4, 3}); }, "expand: f32 [2, 3] cpu:0 does not expand to [4, 3] on axis 0");
  throws([&] { expand(x, {-1, 2, 3}); }, "expand: f32 [2, 3] cpu:0 does not expand to [-1, 2, 3] on axis 0");
  throws([&] { split(x, {2, 2}, 1); }, "split: the sizes exceed axis 1 of f32 [2, 3] cpu:0");
  throws([&] { split(x, {-1, 4}, 1); }, "split: the sizes exceed axis 1 of f32 [2, 3] cpu:0");
  throws([&] { split(x, {1, 1}, 1); }, "split: the sizes add up to 2, not to axis 1 of f32 [2, 3] cpu:0");
}

BOOST_AUTO_TEST_CASE(errors_of_axes_and_places_name_the_op) {
  const Tensor x = zeros({2, 3});
  const auto out_of_range = [&](auto&& fn, const std::string& op, int axis, int rank = 2) {
    check_throws<IndexError>(fn, message(op, ": axis ", axis, " is out of range for a tensor of ", rank, " axes"));
  };
  out_of_range([&] { flatten(x, 2); }, "flatten", 2);
  out_of_range([&] { permute(x, {0, 2}); }, "permute", 2);
  out_of_range([&] { transpose(x, 0, -3); }, "transpose", -3);
  out_of_range([&] { unsqueeze(x, 3); }, "unsqueeze", 3, 3);
  out_of_range([&] { squeeze(x, 2); }, "squeeze", 2);
  out_of_range([&] { narrow(x, 2, 0, 1); }, "narrow", 2);
  out_of_range([&] { select(scalar(1), 0, 0); }, "select", 0, 0);
  out_of_range([&] { split(x, 1, 2); }, "split", 2);
  out_of_range([&] { split(x, {1, 2}, -3); }, "split", -3);
  out_of_range([&] { chunk(x, 1, 2); }, "chunk", 2);
  check_throws<ValueError>([&] { flatten(x, 1, 0); }, "flatten: axis 1 comes after axis 0: f32 [2, 3] cpu:0");
  check_throws<ValueError>([&] { permute(x, {1, -1}); }, "permute: axis 1 appears twice in [1, -1]");
  check_throws<ValueError>([&] { split(x, 0); }, "split: size is 0, must be at least 1");
  check_throws<ValueError>([&] { chunk(x, 0); }, "chunk: chunks is 0, must be at least 1");
  check_throws<IndexError>([&] { select(x, 1, 3); }, "select: index 3 is outside axis 1 of f32 [2, 3] cpu:0");
  check_throws<IndexError>([&] { select(x, 0, -3); }, "select: index -3 is outside axis 0 of f32 [2, 3] cpu:0");
  check_throws<IndexError>([&] { narrow(x, 1, 2, 2); }, "narrow: 2 from 2 on is outside axis 1 of f32 [2, 3] cpu:0");
  check_throws<IndexError>([&] { narrow(x, 1, -1, 2); }, "narrow: 2 from -1 on is outside axis 1 of f32 [2, 3] cpu:0");
  check_throws<IndexError>([&] { narrow(x, 0, INT64_MAX, INT64_MAX); }, "narrow: 9223372036854775807 from");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
