// SPDX-License-Identifier: Apache-2.0
#include "ops/sort.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <numeric>

#include "core/factory.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

// The first k along `axis` by a sort of pairs (value, index).
Arrays first_of(const Array& x, int64_t k, int axis, bool descending) {
  Shape shape = x.shape;
  shape[axis] = k;
  Array values(shape), places(shape);
  const int64_t n = x.shape[axis];
  int64_t inner = 1;
  for (int i = axis + 1; i < shape.rank(); ++i) inner *= shape[i];
  const int64_t lines = n == 0 ? 0 : x.size() / n;
  for (int64_t line = 0; line < lines; ++line) {
    const int64_t outer = line / inner, at = line % inner;
    std::vector<std::pair<double, int64_t>> pairs;
    for (int64_t i = 0; i < n; ++i) {
      const double value = x[(outer * n + i) * inner + at];
      pairs.emplace_back(descending ? -value : value, i);
    }
    std::sort(pairs.begin(), pairs.end());
    for (int64_t i = 0; i < k; ++i) {
      const int64_t from = pairs[static_cast<size_t>(i)].second, to = (outer * k + i) * inner + at;
      values[to] = x[(outer * n + from) * inner + at];
      places[to] = static_cast<double>(from);
    }
  }
  return {values, places};
}

OpCase topk_case(const Shape& shape, int64_t k, int axis, DType dtype = DType::f64) {
  return {message(k, " of ", shape, " axis ", axis, " ", dtype),
          {{shape, -3, 3, dtype}},
          [=](const Tensors& t) {
            const Sorted y = topk(t[0], k, axis);
            return Tensors{y.values, y.indices};
          },
          [=](const Arrays& a) { return first_of(a[0], k, axis, true); }};
}

std::vector<OpCase> topk_cases() {
  return {topk_case({1}, 1, 0),      topk_case({3, 0}, 0, 1),
          topk_case({0, 8}, 2, 1),   topk_case({4, 7}, 2, 1),
          topk_case({5, 8}, 8, 1),   topk_case({2, 11, 3}, 9, 1),
          topk_case({70, 16}, 2, 1), topk_case({9, 6}, 3, 1, DType::i64)};  // many ties
}

std::vector<OpCase> topk_device_cases() {
  std::vector<OpCase> list = {topk_case({65537, 3}, 2, 1),   topk_case({3, 4099}, 3, 0),
                              topk_case({129, 1}, 1, 1),     topk_case({5, 3000}, 3000, 1, DType::i32),
                              topk_case({5, 3000}, 9, 1),    topk_case({2, 3, 33, 4, 5}, 7, 2),
                              topk_case({17, 1025}, 300, 1), topk_case({33, 0}, 0, 1)};
  const int64_t lengths[] = {8, 31, 32, 33, 127, 256, 1023, 3000};
  for (int64_t k = 1; k <= 8; ++k) {
    list.push_back(topk_case({3 * k, lengths[k - 1]}, k, 1));
    list.push_back(topk_case({257, lengths[8 - k]}, k, 1, DType::i64));  // many ties
  }
  return list;
}

OpCase sort_case(const Shape& shape, int axis, bool descending, DType dtype = DType::f64) {
  return {message(shape, " axis ", axis, descending ? " descending " : " ascending ", dtype),
          {{shape, -3, 3, dtype}},
          [=](const Tensors& t) {
            const Sorted y = sort(t[0], axis, descending);
            return Tensors{y.values, y.indices, argsort(t[0], axis, descending)};
          },
          [=](const Arrays& a) {
            Arrays y = first_of(a[0], a[0].shape[axis], axis, descending);
            y.push_back(y[1]);
            return y;
          }};
}

std::vector<OpCase> sort_cases() {
  return {sort_case({1}, 0, false),
          sort_case({3, 0}, 1, false),
          sort_case({4, 9}, 1, true),
          sort_case({3, 17, 2}, 1, false),
          sort_case({5, 6}, 0, true),
          sort_case({4, 60}, 1, false, DType::i32),  // many ties
          sort_case({4, 60}, 1, true, DType::u8)};
}

std::vector<OpCase> sort_device_cases() {
  std::vector<OpCase> list = {sort_case({65537, 2}, 1, true), sort_case({129, 1}, 1, false),
                              sort_case({2, 1500}, 0, false), sort_case({2, 3, 33, 4, 5}, 2, true),
                              sort_case({300, 65}, 0, false), sort_case({0, 33}, 1, true)};
  const DType integers[] = {DType::i64, DType::i32, DType::u8};  // many ties
  for (const int64_t n : {1, 2, 31, 32, 33, 64, 127, 128, 129, 255, 256, 257, 1023, 1024, 1025, 2049, 3000}) {
    list.push_back(sort_case({5, n}, 1, n % 3 == 0));
    list.push_back(sort_case({9, n}, 1, n % 2 == 0, integers[n % 3]));
  }
  return list;
}

const OpSpec topk_spec("topk", topk_cases, {.device_cases = topk_device_cases});
const OpSpec sort_spec("sort", sort_cases, {.device_cases = sort_device_cases});

BOOST_AUTO_TEST_SUITE(topk)

BOOST_AUTO_TEST_CASE(ties_go_to_the_lowest_index_on_both_paths) {
  const Tensor x = Tensor::from({1.0f, 2.0f, 1.0f, 2.0f, 2.0f, 0.0f, 1.0f, 1.0f, 1.0f, 1.0f}, {10});
  const std::vector<int64_t> order = {1, 3, 4, 0, 2, 6, 7, 8, 9, 5};
  for (int64_t k = 0; k <= 10; ++k) {  // up to 8 by insertion, beyond by sorting
    BOOST_TEST(
        (mahia::topk(x, k).indices.to_vector<int64_t>() == std::vector<int64_t>(order.begin(), order.begin() + k)));
  }
}

BOOST_AUTO_TEST_CASE(not_a_number_counts_as_the_largest) {
  const float nan = std::nanf("");
  const Tensor x = Tensor::from({1.0f, nan, 3.0f, nan, INFINITY}, {5});
  const auto places = [](const Tensor& indices) { return indices.to_vector<int64_t>(); };
  BOOST_TEST((places(mahia::topk(x, 3).indices) == std::vector<int64_t>{1, 3, 4}));
  BOOST_TEST((places(argsort(x)) == std::vector<int64_t>{0, 2, 4, 1, 3}));
  BOOST_TEST((places(argsort(x, -1, true)) == std::vector<int64_t>{1, 3, 4, 2, 0}));
}

BOOST_AUTO_TEST_CASE(rejects_counts_and_axes_that_do_not_exist) {
  const Tensor x = zeros({2, 3});
  check_throws<ValueError>([&] { mahia::topk(x, 4); }, "topk: k is 4, must be in [0, 3]: f32 [2, 3] cpu:0");
  check_throws<ValueError>([&] { mahia::topk(x, -1); }, "topk: k is -1, must be in [0, 3]: f32 [2, 3] cpu:0");
  check_throws<IndexError>([&] { mahia::topk(x, 1, 2); }, "topk: axis 2 is out of range for a tensor of 2 axes");
  check_throws<DTypeError>([&] { mahia::sort(zeros({2}, DType::f16)); }, "sort: has no f16, got f16 [2] cpu:0");
  check_throws<IndexError>([&] { mahia::sort(x, -3); }, "sort: axis -3 is out of range");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
