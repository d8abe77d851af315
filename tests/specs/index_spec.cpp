// SPDX-License-Identifier: Apache-2.0
#include "ops/index.hpp"

#include <boost/test/unit_test.hpp>

#include "autograd/backward.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/parallel.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

// Where element (outer, row, inner) of a tensor with `rows` rows along `axis` stands, and the sizes around the axis.
struct Around {
  int64_t outer = 1, inner = 1;
  Around(const Shape& shape, int axis) {
    for (int i = 0; i < shape.rank(); ++i) {
      if (i != axis) (i < axis ? outer : inner) *= shape[i];
    }
  }
  int64_t at(int64_t o, int64_t row, int64_t rows, int64_t i) const { return (o * rows + row) * inner + i; }
  template <class Body>
  void each(int64_t rows, Body&& body) const {
    for (int64_t o = 0; o < outer; ++o) {
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t i = 0; i < inner; ++i) body(o, row, i);
      }
    }
  }
};

Array select_of(const Array& x, int axis, const Array& index, const Shape& shape) {
  Array y(shape);
  const Around around(x.shape, axis);
  around.each(index.size(), [&](int64_t o, int64_t row, int64_t i) {
    y[around.at(o, row, index.size(), i)] = x[around.at(o, static_cast<int64_t>(index[row]), x.shape[axis], i)];
  });
  return y;
}

Array add_of(const Array& x, int axis, const Array& index, const Array& source) {
  Array y = x;
  const Around around(x.shape, axis);
  around.each(index.size(), [&](int64_t o, int64_t row, int64_t i) {
    y[around.at(o, static_cast<int64_t>(index[row]), x.shape[axis], i)] += source[around.at(o, row, index.size(), i)];
  });
  return y;
}

Array gather_of(const Array& x, int axis, const Array& index) {
  Array y(index.shape);
  for (int64_t i = 0; i < y.size(); ++i) {
    int64_t rest = i, from = 0, step = 1;
    for (int a = x.shape.rank() - 1; a >= 0; --a) {
      from += (a == axis ? static_cast<int64_t>(index[i]) : rest % index.shape[a]) * step;
      rest /= index.shape[a];
      step *= x.shape[a];
    }
    y[i] = x[from];
  }
  return y;
}

std::vector<OpCase> embedding_cases() {
  std::vector<OpCase> list;
  const auto add = [&](const Shape& ids, int64_t rows, int64_t width) {
    Shape shape = ids;
    shape.push_back(width);
    list.push_back({message(ids, " of ", rows, " x ", width),
                    {indices(ids, rows), {{rows, width}}},
                    [](const Tensors& t) { return Tensors{embedding(t[0], t[1])}; },
                    [=](const Arrays& a) { return Arrays{select_of(a[1], 0, a[0], shape)}; }});
  };
  add({1}, 1, 1);
  add({0}, 3, 4);
  add({3, 0, 2}, 5, 2);
  add({}, 4, 3);
  add({2, 7}, 5, 3);
  add({4, 33}, 6, 130);
  return list;
}

std::vector<OpCase> index_select_cases() {
  std::vector<OpCase> list;
  const auto add = [&](const Shape& x, int axis, int64_t n) {
    Shape shape = x;
    shape[axis] = n;
    list.push_back({message(x, " axis ", axis, ", ", n, " rows"),
                    {{x}, indices({n}, x[axis])},
                    [=](const Tensors& t) { return Tensors{index_select(t[0], axis, t[1])}; },
                    [=](const Arrays& a) { return Arrays{select_of(a[0], axis, a[1], shape)}; }});
  };
  add({1}, 0, 1);
  add({3, 2}, 0, 0);
  add({3, 0}, 0, 2);
  add({4, 5}, 1, 9);
  add({2, 3, 5}, 1, 4);
  add({37, 9}, 0, 70);
  return list;
}

std::vector<OpCase> index_add_cases() {
  std::vector<OpCase> list;
  const auto add = [&](const Shape& x, int axis, int64_t n) {
    Shape source = x;
    source[axis] = n;
    list.push_back({message(x, " axis ", axis, ", ", n, " rows"),
                    {{x}, indices({n}, x[axis]), {source}},
                    [=](const Tensors& t) { return Tensors{index_add(t[0], axis, t[1], t[2])}; },
                    [=](const Arrays& a) { return Arrays{add_of(a[0], axis, a[1], a[2])}; }});
  };
  add({1}, 0, 1);
  add({3, 2}, 0, 0);
  add({3, 0}, 0, 2);
  add({4, 5}, 1, 9);
  add({2, 3, 5}, 1, 4);
  add({7, 40}, 0, 50);
  return list;
}

std::vector<OpCase> gather_cases() {
  std::vector<OpCase> list;
  const auto add = [&](const Shape& x, int axis, const Shape& index) {
    list.push_back({message(x, " axis ", axis, ", index ", index),
                    {{x}, indices(index, x[axis])},
                    [=](const Tensors& t) { return Tensors{gather(t[0], axis, t[1])}; },
                    [=](const Arrays& a) { return Arrays{gather_of(a[0], axis, a[1])}; }});
  };
  add({1}, 0, {1});
  add({3, 2}, 0, {0, 2});
  add({3, 4}, 1, {3, 9});
  add({3, 4}, 0, {5, 4});
  add({4, 3, 5}, 1, {2, 7, 4});
  add({33, 65}, 1, {33, 40});
  return list;
}

std::vector<OpCase> one_hot_cases() {
  std::vector<OpCase> list;
  const auto add = [&](const Shape& ids, int64_t classes) {
    Shape shape = ids;
    shape.push_back(classes);
    list.push_back({message(ids, ", ", classes, " classes"),
                    {indices(ids, classes)},
                    [=](const Tensors& t) { return Tensors{one_hot(t[0], classes)}; },
                    [=](const Arrays& a) {
                      Array y(shape);
                      for (int64_t i = 0; i < a[0].size(); ++i) y[i * classes + static_cast<int64_t>(a[0][i])] = 1;
                      return Arrays{y};
                    }});
  };
  add({}, 3);
  add({1}, 1);
  add({0, 2}, 4);
  add({5}, 7);
  add({3, 11}, 33);
  return list;
}

std::vector<OpCase> bincount_cases() {
  std::vector<OpCase> list;
  const auto add = [&](const Shape& ids, int64_t high, int64_t minlength) {
    list.push_back({message(ids, " below ", high, ", at least ", minlength),
                    {indices(ids, high)},
                    [=](const Tensors& t) { return Tensors{bincount(t[0], minlength)}; },
                    [=](const Arrays& a) {
                      double largest = static_cast<double>(minlength) - 1;
                      for (const double id : a[0].values) largest = std::max(largest, id);
                      Array y({static_cast<int64_t>(largest) + 1});
                      for (const double id : a[0].values) ++y[static_cast<int64_t>(id)];
                      return Arrays{y};
                    }});
  };
  add({1}, 1, 0);
  add({0}, 1, 0);
  add({0}, 1, 4);
  add({9}, 5, 0);
  add({70}, 6, 40);
  return list;
}

const OpSpecOptions any_index = {.dtypes = {DType::i64}, .gradient = false};
const OpSpec embedding_spec("embedding", embedding_cases);
const OpSpec index_select_spec("index_select", index_select_cases);
const OpSpec index_add_spec("index_add", index_add_cases);
const OpSpec gather_spec("gather", gather_cases);
const OpSpec one_hot_spec("one_hot", one_hot_cases, any_index);
const OpSpec bincount_spec("bincount", bincount_cases, any_index);

BOOST_AUTO_TEST_SUITE(index)

BOOST_AUTO_TEST_CASE(an_index_out_of_range_is_named_with_its_position_and_the_range) {
  const Tensor x = zeros({3, 4});
  const auto ids = [](std::initializer_list<int64_t> values) {
    return Tensor::from(values, {static_cast<int64_t>(values.size())});
  };
  check_throws<IndexError>(
      [&] {
        embedding(ids({0, 2, 3}), x);
      },
      "embedding: index 3 at position 2 is outside [0, 3): index i64 [3] cpu:0");
  check_throws<IndexError>([&] { embedding(ids({0}), zeros({0, 4})); }, "embedding: index 0 at position 0");
  check_throws<IndexError>(
      [&] {
        index_select(x, 1, ids({1, -1}));
      },
      "index_select: index -1 at position 1 is outside [0, 4)");
  check_throws<IndexError>(
      [&] {
        index_add(x, 0, ids({5}), zeros({1, 4}));
      },
      "index_add: index 5 at position 0 is outside [0, 3)");
  check_throws<IndexError>(
      [&] {
        mahia::gather(x, 0, Tensor::from({int64_t{7}}, {1, 1}));
      },
      "gather: index 7 at position 0 is outside [0, 3)");
  check_throws<IndexError>([&] { one_hot(ids({2}), 2); }, "one_hot: index 2 at position 0 is outside [0, 2)");
  check_throws<IndexError>([&] { bincount(ids({4, -2})); }, "bincount: index -2 at position 1 is outside [0, 5)");
}

BOOST_AUTO_TEST_CASE(operands_that_do_not_fit_are_named) {
  const Tensor x = zeros({3, 4}), index = zeros({2}, DType::i64);
  check_throws<DTypeError>([&] { embedding(zeros({2}), x); }, "embedding: needs i64 or i32 indices, got f32 [2] cpu:0");
  check_throws<ShapeError>([&] { embedding(index, zeros({3})); },
                           "embedding: needs a weight (V, D), got f32 [3] cpu:0");
  check_throws<ShapeError>(
      [&] {
        index_select(x, 0, zeros({1, 2}, DType::i64));
      },
      "index_select: needs an index (n), got i64 [1, 2] cpu:0 for f32 [3, 4] cpu:0");
  check_throws<IndexError>([&] { index_select(x, 2, index); }, "index_select: axis 2 is out of range");
  check_throws<ShapeError>(
      [&] {
        index_add(x, 0, index, zeros({3, 4}));
      },
      "index_add: source must have shape [2, 4]: x f32 [3, 4] cpu:0, index i64 [2] cpu:0, source "
      "f32 [3, 4] cpu:0");
  check_throws<DTypeError>(
      [&] {
        index_add(x, 0, index, zeros({2, 4}, DType::f64));
      },
      "index_add: needs floating tensors of one dtype: x f32 [3, 4] cpu:0, source f64 [2, 4] "
      "cpu:0");
  check_throws<ShapeError>([&] { mahia::gather(x, 0, index); },
                           "gather: ranks differ: x f32 [3, 4] cpu:0, index i64 [2] cpu:0");
  check_throws<ShapeError>(
      [&] {
        mahia::gather(x, 0, zeros({2, 5}, DType::i64));
      },
      "gather: index is larger than x off axis 0: x f32 [3, 4] cpu:0, index i64 [2, 5] cpu:0");
  check_throws<ValueError>([&] { one_hot(index, 0); }, "one_hot: num_classes is 0, must be at least 1");
  check_throws<ValueError>([&] { bincount(index, -1); }, "bincount: minlength is -1, must not be negative");
}

BOOST_AUTO_TEST_CASE(selecting_keeps_every_dtype_and_takes_i32_indices) {
  const Tensor index = Tensor::from({2, 0}, {2});
  for (const DType dtype : {DType::i64, DType::i32, DType::u8, DType::boolean, DType::f16}) {
    const Tensor x = Tensor::from({0.0, 1.0, 1.0, 0.0, 0.0, 1.0}, {3, 2});
    const Tensor y = index_select(copy_to(x, cpu_device, dtype), 0, index);
    BOOST_TEST((y.dtype() == dtype));
    BOOST_TEST((y.to_vector<double>() == std::vector<double>{0, 1, 0, 1}), name_of(dtype));
  }
}

// Small terms behind a large one: their order decides the bits.
BOOST_AUTO_TEST_CASE(the_gradient_of_a_row_is_summed_in_the_order_of_the_positions) {
  const Tensor weight = zeros({2, 1}).set_requires_grad(true);
  const Tensor ids = Tensor::from({int64_t{1}, int64_t{0}, int64_t{1}, int64_t{1}}, {4});
  backward({embedding(ids, weight)}, {Tensor::from({1.0f, 5.0f, 1e8f, -1e8f}, {4, 1})});
  BOOST_TEST((weight.grad().to_vector<float>() == std::vector<float>{5, (1.0f + 1e8f) - 1e8f}));
}

BOOST_AUTO_TEST_CASE(gradients_have_the_same_bits_for_any_thread_count) {
  const RandomCall call{random_key("tests", "index")};
  const Tensor ids = randint(0, 300, {2000}), places = randint(0, 150, {300, 2000});
  const int before = num_threads();
  Tensors first;
  for (const int threads : {1, 2, 3, 7}) {
    set_num_threads(threads);
    const Tensor x = randn({300, 150}, call).set_requires_grad(true);
    const Tensor rows = embedding(ids, x), picked = mahia::gather(x, 1, places);
    backward({rows, picked}, {randn(rows.shape(), call), randn(picked.shape(), call)});
    const Tensors bits = {rows, picked, x.grad()};
    if (first.empty()) first = bits;
    for (size_t i = 0; i < bits.size(); ++i) check_same_bits(bits[i], first[i]);
  }
  set_num_threads(before);
}

// 256 + 1 rounds to 256 in bf16, whose sums are therefore kept in f32.
BOOST_AUTO_TEST_CASE(bf16_gradients_are_summed_in_f32) {
  const Tensor dy = Tensor::from({256.0f, 1.0f, 1.0f}, {3, 1}), ids = zeros({3}, DType::i64);
  for (const bool gathers : {false, true}) {
    const Tensor x = zeros({1, 1}, DType::bf16).set_requires_grad(true);
    const Tensor y = gathers ? mahia::gather(x, 0, zeros({3, 1}, DType::i64)) : embedding(ids, x);
    backward({y}, {copy_to(dy, cpu_device, DType::bf16)});
    BOOST_TEST(x.grad().item<float>() == 258.0f, (gathers ? "gather" : "embedding"));
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
