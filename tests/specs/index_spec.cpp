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

OpCase embedding_case(const Shape& ids, int64_t rows, int64_t width) {
  Shape shape = ids;
  shape.push_back(width);
  return {message(ids, " of ", rows, " x ", width),
          {indices(ids, rows), {{rows, width}}},
          [](const Tensors& t) { return Tensors{embedding(t[0], t[1])}; },
          [=](const Arrays& a) { return Arrays{select_of(a[1], 0, a[0], shape)}; }};
}

std::vector<OpCase> embedding_cases() {
  return {embedding_case({1}, 1, 1), embedding_case({0}, 3, 4),    embedding_case({3, 0, 2}, 5, 2),
          embedding_case({}, 4, 3),  embedding_case({2, 7}, 5, 3), embedding_case({4, 33}, 6, 130)};
}

std::vector<OpCase> embedding_device_cases() {
  return {embedding_case({31}, 257, 129),      embedding_case({32}, 33, 32),      embedding_case({1}, 1000, 1025),
          embedding_case({4097}, 3, 31),       embedding_case({1025}, 1, 65),     embedding_case({65537}, 300, 2),
          embedding_case({127}, 65537, 3),     embedding_case({255, 3}, 1023, 1), embedding_case({2, 3, 1, 5}, 7, 33),
          embedding_case({8, 256}, 5000, 128), embedding_case({2048}, 50257, 17), embedding_case({0}, 129, 33)};
}

// A tensor's shape, an axis, and how many of its rows are chosen.
struct Rows {
  Shape x;
  int axis;
  int64_t n;
  Shape chosen() const {
    Shape shape = x;
    shape[axis] = n;
    return shape;
  }
};

const std::vector<Rows> rows_cases = {{{1}, 0, 1},    {{3, 2}, 0, 0},    {{3, 0}, 0, 2},
                                      {{4, 5}, 1, 9}, {{2, 3, 5}, 1, 4}, {{37, 9}, 0, 70}};
const std::vector<Rows> rows_device_cases = {
    {{31}, 0, 129},           {{1025}, 0, 1023},      {{3}, 0, 65537},           {{65537}, 0, 3},
    {{65537, 2}, 1, 3},       {{65537, 2}, 0, 40000}, {{2, 65537}, 1, 1000},     {{129, 257}, 0, 255},
    {{129, 257}, 1, 500},     {{33, 4, 127}, 1, 31},  {{2, 3, 33, 5, 7}, 2, 65}, {{2, 3, 4, 5, 257}, 0, 9},
    {{1, 1, 1000, 1}, 2, 32}, {{256, 512}, 0, 1024}};

std::vector<OpCase> index_select_cases(const std::vector<Rows>& rows) {
  std::vector<OpCase> list;
  for (const Rows& r : rows) {
    list.push_back({message(r.x, " axis ", r.axis, ", ", r.n, " rows"),
                    {{r.x}, indices({r.n}, r.x[r.axis])},
                    [=](const Tensors& t) { return Tensors{index_select(t[0], r.axis, t[1])}; },
                    [=](const Arrays& a) { return Arrays{select_of(a[0], r.axis, a[1], r.chosen())}; }});
  }
  return list;
}

std::vector<OpCase> index_add_cases(const std::vector<Rows>& rows) {
  std::vector<OpCase> list;
  for (const Rows& r : rows) {
    list.push_back({message(r.x, " axis ", r.axis, ", ", r.n, " rows"),
                    {{r.x}, indices({r.n}, r.x[r.axis]), {r.chosen()}},
                    [=](const Tensors& t) { return Tensors{index_add(t[0], r.axis, t[1], t[2])}; },
                    [=](const Arrays& a) { return Arrays{add_of(a[0], r.axis, a[1], a[2])}; }});
  }
  return list;
}

OpCase gather_case(const Shape& x, int axis, const Shape& index) {
  return {message(x, " axis ", axis, ", index ", index),
          {{x}, indices(index, x[axis])},
          [=](const Tensors& t) { return Tensors{gather(t[0], axis, t[1])}; },
          [=](const Arrays& a) { return Arrays{gather_of(a[0], axis, a[1])}; }};
}

std::vector<OpCase> gather_cases() {
  return {gather_case({1}, 0, {1}),       gather_case({3, 2}, 0, {0, 2}),       gather_case({3, 4}, 1, {3, 9}),
          gather_case({3, 4}, 0, {5, 4}), gather_case({4, 3, 5}, 1, {2, 7, 4}), gather_case({33, 65}, 1, {33, 40})};
}

std::vector<OpCase> gather_device_cases() {
  return {gather_case({31}, 0, {129}),
          gather_case({1025}, 0, {1023}),
          gather_case({3}, 0, {65537}),
          gather_case({65537}, 0, {33}),
          gather_case({65537, 2}, 1, {65537, 1}),
          gather_case({65537, 2}, 0, {30000, 2}),
          gather_case({3, 40000}, 1, {2, 50000}),
          gather_case({129, 257}, 0, {255, 128}),
          gather_case({129, 257}, 1, {127, 513}),
          gather_case({2, 3, 33, 5, 7}, 2, {2, 3, 65, 4, 7}),
          gather_case({5, 4, 3, 2, 32}, 4, {5, 4, 3, 1, 32}),
          gather_case({32, 8, 256}, 0, {64, 8, 255})};
}

std::vector<OpCase> one_hot_cases(const std::vector<std::pair<Shape, int64_t>>& sizes) {
  std::vector<OpCase> list;
  for (const auto& [ids, count] : sizes) {
    const int64_t classes = count;
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
  }
  return list;
}

OpCase bincount_case(const Shape& ids, int64_t high, int64_t minlength) {
  return {message(ids, " below ", high, ", at least ", minlength),
          {indices(ids, high)},
          [=](const Tensors& t) { return Tensors{bincount(t[0], minlength)}; },
          [=](const Arrays& a) {
            double largest = static_cast<double>(minlength) - 1;
            for (const double id : a[0].values) largest = std::max(largest, id);
            Array y({static_cast<int64_t>(largest) + 1});
            for (const double id : a[0].values) ++y[static_cast<int64_t>(id)];
            return Arrays{y};
          }};
}

std::vector<OpCase> bincount_cases() {
  return {bincount_case({1}, 1, 0), bincount_case({0}, 1, 0), bincount_case({0}, 1, 4), bincount_case({9}, 5, 0),
          bincount_case({70}, 6, 40)};
}

std::vector<OpCase> bincount_device_cases() {
  return {bincount_case({31}, 33, 0),     bincount_case({32}, 1, 0),       bincount_case({1025}, 257, 300),
          bincount_case({1023}, 1024, 0), bincount_case({5}, 100000, 0),   bincount_case({0}, 1, 65537),
          bincount_case({65537}, 2, 0),   bincount_case({500009}, 129, 0), bincount_case({100003}, 60000, 70000),
          bincount_case({1000003}, 1, 0), bincount_case({255}, 8, 8)};
}

OpSpecOptions any_index(std::function<std::vector<OpCase>()> device_cases) {
  return {.dtypes = {DType::i64}, .gradient = false, .device_cases = std::move(device_cases)};
}
const OpSpec embedding_spec("embedding", embedding_cases, {.device_cases = embedding_device_cases});
const OpSpec index_select_spec("index_select", [] { return index_select_cases(rows_cases); },
                               {.device_cases = [] { return index_select_cases(rows_device_cases); }});
const OpSpec index_add_spec("index_add", [] { return index_add_cases(rows_cases); },
                            {.device_cases = [] { return index_add_cases(rows_device_cases); }});
const OpSpec gather_spec("gather", gather_cases, {.device_cases = gather_device_cases});
const OpSpec one_hot_spec(
    "one_hot",
    [] {
      return one_hot_cases({{{}, 3}, {{1}, 1}, {{0, 2}, 4}, {{5}, 7}, {{3, 11}, 33}});
    },
    any_index([] {
      return one_hot_cases({{{31}, 32},
                            {{1025}, 257},
                            {{1}, 100003},
                            {{65537}, 1},
                            {{65537}, 3},
                            {{2, 3, 1, 5}, 129},
                            {{127, 0}, 5},
                            {{33, 255}, 8},
                            {{256}, 1023},
                            {{3}, 33000},
                            {{129}, 1}});
    }));
const OpSpec bincount_spec("bincount", bincount_cases, any_index(bincount_device_cases));

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
