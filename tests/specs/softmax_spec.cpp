// SPDX-License-Identifier: Apache-2.0
#include "ops/softmax.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>

#include "core/factory.hpp"
#include "ops/shape.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

// Calls body(first index, step, n) for each row along `axis`.
template <class Body>
void for_rows(const Shape& shape, int axis, Body&& body) {
  int64_t step = 1;
  for (int i = axis + 1; i < shape.rank(); ++i) step *= shape[i];
  const int64_t n = shape.rank() ? shape[axis] : 1;
  for (int64_t i = 0; i < numel(shape); ++i) {
    if (i / step % n == 0) body(i, step, n);
  }
}

Array softmax_of(const Array& x, int axis, bool logarithm) {
  Array y(x.shape);
  for_rows(x.shape, axis, [&](int64_t first, int64_t step, int64_t n) {
    double top = -INFINITY, total = 0;
    for (int64_t i = 0; i < n; ++i) top = std::max(top, x[first + i * step]);
    for (int64_t i = 0; i < n; ++i) total += std::exp(x[first + i * step] - top);
    for (int64_t i = 0; i < n; ++i) {
      const double shifted = x[first + i * step] - top;
      y[first + i * step] = logarithm ? shifted - std::log(total) : std::exp(shifted) / total;
    }
  });
  return y;
}

struct Rows {
  Shape shape;
  int axis;
  double range;
};
const std::vector<Rows> rows = {{{1}, 0, 2},        {{3, 0}, 1, 2},   {{4, 7}, 1, 2},
                                {{2, 5, 3}, 1, 10}, {{17, 33}, 0, 5}, {{2, 101}, 1, 80}};
const std::vector<Rows> device_rows = {
    {{65537, 3}, 1, 2}, {{65537, 3}, 0, 2}, {{3, 50021}, 1, 8},   {{3, 50021}, 0, 2},       {{129, 1}, 1, 5},
    {{5, 31}, 1, 5},    {{7, 32}, 1, 5},    {{4, 33}, 1, 20},     {{9, 127}, 1, 5},         {{64, 128}, 1, 5},
    {{31, 255}, 1, 10}, {{256, 256}, 1, 5}, {{257, 257}, 0, 5},   {{130, 1023}, 1, 5},      {{33, 1025}, 1, 5},
    {{2, 4097}, 1, 30}, {{0, 129}, 1, 2},   {{8, 129, 31}, 1, 5}, {{2, 3, 33, 4, 5}, 2, 5}, {{2, 3, 4, 5, 65}, 4, 5}};

std::vector<OpCase> cases(bool logarithm, const std::vector<Rows>& list_of_rows) {
  std::vector<OpCase> list;
  for (const Rows& r : list_of_rows) {
    list.push_back(
        {message(r.shape, " axis ", r.axis),
         {{r.shape, -r.range, r.range}},
         [=](const Tensors& x) { return Tensors{logarithm ? log_softmax(x[0], r.axis) : softmax(x[0], r.axis)}; },
         [=](const Arrays& x) { return Arrays{softmax_of(x[0], r.axis, logarithm)}; }});
  }
  return list;
}

OpSpec spec_of(const char* name, bool logarithm) {
  return OpSpec(name, [=] { return cases(logarithm, rows); },
                {.device_cases = [=] { return cases(logarithm, device_rows); }});
}
const OpSpec softmax_spec = spec_of("softmax", false);
const OpSpec log_softmax_spec = spec_of("log_softmax", true);

BOOST_AUTO_TEST_SUITE(softmax)

BOOST_AUTO_TEST_CASE(rejects_integers_and_bad_axes) {
  const Tensor x = arange(4);
  check_throws<DTypeError>([&] { mahia::softmax(x); }, "softmax: needs a floating tensor, got i64 [4] cpu:0");
  check_throws<IndexError>(
      [&] {
        mahia::softmax(zeros({2, 3}), 2);
      },
      "softmax: axis 2 is out of range for a tensor of 2 axes");
}

BOOST_AUTO_TEST_CASE(huge_logits_do_not_overflow) {
  const Tensor y = mahia::softmax(Tensor::from({1e30f, 1e30f, -1e30f}, {3}));
  BOOST_TEST(y.to_vector<float>() == (std::vector<float>{0.5f, 0.5f, 0.0f}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(keeps_6e_7_and_a_row_has_the_same_bits_alone) {
  for (const int64_t n : {1, 7, 8, 9, 64, 257, 3000}) {
    const Tensor x = randn({5, n}), y = mahia::softmax(x), z = mahia::log_softmax(x);
    check_close(y, softmax_of(to_array(x), 1, false), {6e-7, 0});
    check_close(z, softmax_of(to_array(x), 1, true), {6e-7, 0});
    const Tensor row = contiguous(narrow(x, 0, 3, 1));
    check_same_bits(mahia::softmax(row), contiguous(narrow(y, 0, 3, 1)));
    check_same_bits(mahia::log_softmax(row), contiguous(narrow(z, 0, 3, 1)));
  }
}

BOOST_AUTO_TEST_CASE(a_nan_spreads_over_its_row_only) {
  for (const int64_t at : {0, 5, 40}) {
    std::vector<float> values(2 * 41, 1.0f);
    values[static_cast<size_t>(at)] = NAN;
    const std::vector<float> y = mahia::softmax(Tensor::from(values, {2, 41})).to_vector<float>();
    for (size_t i = 0; i < y.size(); ++i) BOOST_TEST(std::isnan(y[i]) == (i < 41));
  }
}

BOOST_AUTO_TEST_CASE(tiny_powers_underflow_to_the_smallest_numbers) {
  const float smallest = std::ldexp(1.0f, -149);
  const Tensor y = mahia::softmax(Tensor::from({0.0f, -103.0f, -104.0f, -1000.0f, -INFINITY}, {5}));
  BOOST_TEST(y.to_vector<float>() == (std::vector<float>{1, smallest, 0, 0, 0}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
