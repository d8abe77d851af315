// SPDX-License-Identifier: Apache-2.0
#include "ops/matmul.hpp"

#include <array>
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "core/factory.hpp"
#include "core/parallel.hpp"
#include "ops/shape.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

// Where matrix `index` of the broadcast shape `lead` begins in x (.., rows, columns).
int64_t matrix_offset(const Shape& lead, int64_t index, const Shape& x) {
  int64_t offset = 0, step = x[x.rank() - 1] * x[x.rank() - 2];
  for (int axis = lead.rank() - 1, own = x.rank() - 3; axis >= 0; --axis, --own) {
    const int64_t i = index % lead[axis];
    index /= lead[axis];
    if (own < 0) continue;
    offset += (x[own] == 1 ? 0 : i) * step;
    step *= x[own];
  }
  return offset;
}

Array product_of(Array a, Array b) {
  const bool row = a.shape.rank() == 1, column = b.shape.rank() == 1;
  if (row) a.shape.insert(0, 1);
  if (column) b.shape.push_back(1);
  const int64_t m = a.shape[a.shape.rank() - 2], k = a.shape.back(), n = b.shape.back();
  Shape lead_a = a.shape, lead_b = b.shape;
  for (Shape* lead : {&lead_a, &lead_b}) {
    lead->erase(lead->rank() - 1);
    lead->erase(lead->rank() - 1);
  }
  const Shape lead = broadcast_shapes("reference", lead_a, lead_b);
  Shape shape = lead;
  if (!row) shape.push_back(m);
  if (!column) shape.push_back(n);
  Array c(shape);
  for (int64_t i = 0; i < c.size(); ++i) {
    const int64_t index = i / (m * n), r = i / n % m, j = i % n;
    const int64_t at_a = matrix_offset(lead, index, a.shape), at_b = matrix_offset(lead, index, b.shape);
    for (int64_t q = 0; q < k; ++q) c[i] += a[at_a + r * k + q] * b[at_b + q * n + j];
  }
  return c;
}

std::vector<OpCase> cases(const std::vector<std::pair<Shape, Shape>>& shapes) {
  std::vector<OpCase> list;
  for (const auto& [a, b] : shapes) {
    list.push_back({message(a, " by ", b),
                    {{a}, {b}},
                    [](const Tensors& x) { return Tensors{matmul(x[0], x[1])}; },
                    [](const Arrays& x) { return Arrays{product_of(x[0], x[1])}; }});
  }
  return list;
}

OpCase transposed_case(int64_t m, int64_t k, int64_t n) {
  return {message("transposed operands ", m, " x ", k, " x ", n),
          {{{k, m}}, {{n, k}}},
          [](const Tensors& x) { return Tensors{matmul(transpose(x[0], 0, 1), transpose(x[1], 0, 1))}; },
          [=](const Arrays& x) {
            Array c({m, n});
            for (int64_t i = 0; i < c.size(); ++i) {
              for (int64_t q = 0; q < k; ++q) c[i] += x[0][q * m + i / n] * x[1][i % n * k + q];
            }
            return Arrays{c};
          }};
}

std::vector<OpCase> small_cases() {
  std::vector<OpCase> list = cases({{{1}, {1}},
                                    {{5}, {5}},
                                    {{4}, {4, 3}},
                                    {{2, 4}, {4}},
                                    {{0, 4}, {4, 3}},
                                    {{3, 0}, {0, 2}},
                                    {{7, 13}, {13, 19}},
                                    {{3, 2, 5}, {5, 4}},
                                    {{2, 3, 5}, {2, 5, 4}},
                                    {{2, 1, 3, 5}, {3, 5, 2}},
                                    {{5}, {2, 5, 3}}});
  list.push_back(transposed_case(6, 9, 11));
  return list;
}

std::vector<OpCase> device_cases() {
  std::vector<OpCase> list = cases({{{31, 32}, {32, 33}},
                                    {{129, 257}, {257, 127}},
                                    {{256, 256}, {256, 256}},
                                    {{255, 64}, {64, 1025}},
                                    {{1, 3001}, {3001, 33}},
                                    {{3001, 1}, {1, 257}},
                                    {{3, 20011}, {20011, 5}},
                                    {{65537, 3}, {3, 2}},
                                    {{2, 3}, {3, 65537}},
                                    {{100003}, {100003}},
                                    {{1023}, {1023, 65}},
                                    {{65, 1023}, {1023}},
                                    {{65537, 1, 2}, {65537, 2, 1}},
                                    {{300, 7, 9}, {300, 9, 5}},
                                    {{128, 33, 31}, {31, 8}},
                                    {{5, 2, 3, 31, 33}, {3, 33, 17}},
                                    {{5, 1, 3, 16, 32}, {2, 1, 32, 24}},
                                    {{2, 0, 4, 5}, {5, 6}},
                                    {{2, 4, 0}, {0, 3}}});
  for (const auto& [m, k, n] : {std::array{31, 33, 32}, {128, 256, 128}, {257, 65, 129}, {1, 1023, 1}, {1025, 3, 5}}) {
    list.push_back(transposed_case(m, k, n));
  }
  list.push_back({"permuted batches",
                  {{{33, 2, 17, 3}}, {{17, 3, 9, 1}}},
                  [](const Tensors& x) {
                    return Tensors{matmul(permute(x[0], {3, 1, 0, 2}), permute(x[1], {1, 3, 0, 2}))};
                  },
                  {}});
  return list;
}

const OpSpec matmul_spec("matmul", small_cases, {.device_cases = device_cases});

BOOST_AUTO_TEST_SUITE(matmul)

BOOST_AUTO_TEST_CASE(names_operands_that_do_not_fit) {
  check_throws<ShapeError>(
      [] {
        mahia::matmul(zeros({2, 3}), zeros({4, 5}));
      },
      "matmul: a (.., m, k) and b (.., k, n) disagree on `k`: a f32 [2, 3] cpu:0, b f32 [4, 5]");
  check_throws<ShapeError>(
      [] {
        mahia::matmul(zeros({2, 3, 4}), zeros({3, 4, 5}));
      },
      "matmul: shapes [2] and [3] do not broadcast");
  check_throws<ShapeError>([] { mahia::matmul(scalar(1), zeros({4, 5})); }, "matmul: needs at least one axis");
  check_throws<DTypeError>(
      [] {
        mahia::matmul(zeros({2, 3}), zeros({3, 5}, DType::f64));
      },
      "matmul: needs two tensors of one floating dtype: a f32 [2, 3] cpu:0, b f64 [3, 5] cpu:0");
}

BOOST_AUTO_TEST_CASE(sums_long_rows_to_twice_the_root_of_their_length_in_units_of_rounding) {
  const int64_t m = 9, n = 21;
  for (const int64_t k : {1, 255, 257, 4096, 9001}) {
    const Tensor a = randn({m, k}), b = randn({k, n});
    const std::vector<double> x = a.to_vector<double>(), w = b.to_vector<double>();
    const std::vector<double> y = mahia::matmul(a, b).to_vector<double>();
    const double unit = std::ldexp(1.0, -24);
    for (int64_t i = 0; i < m * n; ++i) {
      double sum = 0, size = 0;
      for (int64_t q = 0; q < k; ++q) {
        const double term = x[static_cast<size_t>(i / n * k + q)] * w[static_cast<size_t>(q * n + i % n)];
        sum += term;
        size += std::abs(term);
      }
      BOOST_TEST(std::abs(y[static_cast<size_t>(i)] - sum) <= 2 * std::sqrt(static_cast<double>(k)) * unit * size);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_row_has_the_same_bits_in_any_batch_and_layout) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    const Tensor a = randn({151, 300}, dtype), b = randn({300, 530}, dtype);
    const Tensor all = mahia::matmul(a, b);
    const Tensor b_transposed = transpose(contiguous(transpose(b, 0, 1)), 0, 1);
    for (const auto& [start, rows] : {std::pair{0, 1}, {150, 1}, {3, 7}, {70, 75}, {1, 150}}) {
      const Tensor part = narrow(a, 0, start, rows), expected = contiguous(narrow(all, 0, start, rows));
      check_same_bits(mahia::matmul(part, b), expected);
      check_same_bits(mahia::matmul(part, b_transposed), expected);
      check_same_bits(mahia::matmul(transpose(contiguous(transpose(part, 0, 1)), 0, 1), b), expected);
    }
    check_same_bits(mahia::matmul(a, contiguous(narrow(b, 1, 17, 5))), contiguous(narrow(all, 1, 17, 5)));
  }
}

BOOST_AUTO_TEST_CASE(large_products_have_the_same_bits_for_any_thread_count) {
  const Tensor a = randn({700, 5000}), b = randn({5000, 520});
  const int before = num_threads();
  set_num_threads(1);
  const Tensor one = mahia::matmul(a, b);
  for (const int threads : {2, 3, 7}) {
    set_num_threads(threads);
    check_same_bits(mahia::matmul(a, b), one);
  }
  set_num_threads(before);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
