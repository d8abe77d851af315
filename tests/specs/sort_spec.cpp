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

std::vector<OpCase> topk_cases() {
  std::vector<OpCase> list;
  const auto add = [&](const Shape& shape, int64_t k, int axis, DType dtype = DType::f64) {
    list.push_back({message(k, " of ", shape, " axis ", axis, " ", dtype),
                    {{shape, -3, 3, dtype}},
                    [=](const Tensors& t) {
                      const Sorted y = topk(t[0], k, axis);
                      return Tensors{y.values, y.indices};
                    },
                    [=](const Arrays& a) { return first_of(a[0], k, axis, true); }});
  };
  add({1}, 1, 0);
  add({3, 0}, 0, 1);
  add({0, 8}, 2, 1);
  add({4, 7}, 2, 1);
  add({5, 8}, 8, 1);
  add({2, 11, 3}, 9, 1);
  add({70, 16}, 2, 1);
  add({9, 6}, 3, 1, DType::i64);  // many ties
  return list;
}

std::vector<OpCase> sort_cases() {
  std::vector<OpCase> list;
  const auto add = [&](const Shape& shape, int axis, bool descending, DType dtype = DType::f64) {
    list.push_back({message(shape, " axis ", axis, descending ? " descending " : " ascending ", dtype),
                    {{shape, -3, 3, dtype}},
                    [=](const Tensors& t) {
                      const Sorted y = sort(t[0], axis, descending);
                      return Tensors{y.values, y.indices, argsort(t[0], axis, descending)};
                    },
                    [=](const Arrays& a) {
                      Arrays y = first_of(a[0], a[0].shape[axis], axis, descending);
                      y.push_back(y[1]);
                      return y;
                    }});
  };
  add({1}, 0, false);
  add({3, 0}, 1, false);
  add({4, 9}, 1, true);
  add({3, 17, 2}, 1, false);
  add({5, 6}, 0, true);
  add({4, 60}, 1, false, DType::i32);  // many ties
  add({4, 60}, 1, true, DType::u8);
  return list;
}

const OpSpec topk_spec("topk", topk_cases);
const OpSpec sort_spec("sort", sort_cases);

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
