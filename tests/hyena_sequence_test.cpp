// SPDX-License-Identifier: Apache-2.0
// Padding, packed documents and both directions: what an output of the Hyena operator may depend on.
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "nn/hyena.hpp"
#include "ops/binary.hpp"
#include "ops/cat.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/device.hpp"
#include "tests/support/fixture.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::nn {
namespace {

using tests::check_near;
using tests::check_same_bits;
using tests::check_throws;

constexpr double infinity = std::numeric_limits<double>::infinity();

// One transform for the whole row, which mixes round-off of all its inputs.
HyenaConfig small(int64_t l_max = 40) {
  return {.width = 4,
          .l_max = l_max,
          .order = 3,
          .algorithm = ConvAlgorithm::fft,
          .filter = {.embedding = 5, .hidden = 8, .sine_frequency = 1, .shift = 0.1}};
}

Tensor mask_of(const std::vector<std::vector<uint8_t>>& rows) {
  std::vector<uint8_t> all;
  for (const auto& row : rows) all.insert(all.end(), row.begin(), row.end());
  const Shape shape{static_cast<int64_t>(rows.size()), static_cast<int64_t>(rows[0].size())};
  return copy_to(Tensor::from(all, shape), cpu_device, DType::boolean);
}

// u (B, T, D) with `value` at the steps [begin, end) of row b.
Tensor with_values(const Tensor& u, int64_t b, int64_t begin, int64_t end, double value) {
  const Tensor changed = clone(u.detach());
  fill(narrow(narrow(changed, 0, b, 1), 1, begin, end - begin), value);
  return changed;
}

Tensor part(const Tensor& y, int64_t b, int64_t begin, int64_t end) {
  return contiguous(narrow(narrow(y, 0, b, 1), 1, begin, end - begin));
}

double largest(const Tensor& x) { return amax(abs(x)).item<double>(); }

// An operator on the tested device.
struct Subject {
  explicit Subject(const HyenaConfig& c) : module(c) { module.to(tests::tested_device()); }
  Tensor operator()(const Tensor& u, const HyenaSequence& sequence = {}) const { return module(u, sequence); }

  HyenaOperator module;
};

Tensor normal(const Shape& shape) { return randn(shape, DType::f32, tests::tested_device()); }
Tensor on_device(const Tensor& x) { return copy_to(x, tests::tested_device(), x.dtype()); }

BOOST_AUTO_TEST_SUITE(hyena_sequence)

BOOST_AUTO_TEST_CASE(padding_influences_nothing) {
  for (const bool bidirectional : {false, true}) {
    HyenaConfig c = small();
    c.bidirectional = bidirectional;
    const Subject op(c);
    const Tensor mask = on_device(mask_of({{1, 1, 0, 1, 1, 1, 0, 0}, {0, 0, 1, 1, 1, 1, 1, 1}}));
    const Tensor u = normal({2, 8, 4}), y = op(u, {.mask = mask});
    for (const double value : {1e30, infinity, std::nan("")}) {
      Tensor other = u;
      for (const auto& [b, t] : {std::pair{0, 2}, {0, 6}, {0, 7}, {1, 0}, {1, 1}}) {
        other = with_values(other, b, t, t + 1, value);
      }
      for (const Tensor& p : op.module.parameters()) p.set_grad({});
      other.set_requires_grad(true);
      const Tensor z = op(other, {.mask = mask});
      check_same_bits(z, y);  // at the padding itself too: there stands out_proj's bias
      backward(sum(z));
      BOOST_TEST(largest(part(other.grad(), 0, 2, 3)) == 0);
      BOOST_TEST(largest(part(other.grad(), 0, 6, 8)) == 0);
      BOOST_TEST(largest(part(other.grad(), 1, 0, 2)) == 0);
      BOOST_TEST(largest(part(other.grad(), 1, 2, 8)) > 0);
      for (const auto& [name, p] : op.module.named_parameters()) BOOST_TEST(std::isfinite(largest(p.grad())), name);
    }
  }
}

BOOST_AUTO_TEST_CASE(padding_on_either_side_gives_the_values_without_it) {
  for (const bool bidirectional : {false, true}) {
    HyenaConfig c = small();
    c.bidirectional = bidirectional;
    const Subject op(c);
    const Tensor u = normal({1, 5, 4}), padding = normal({1, 3, 4});
    const Tensor right = op(cat({u, padding}, 1), {.mask = on_device(mask_of({{1, 1, 1, 1, 1, 0, 0, 0}}))});
    const Tensor left = op(cat({padding, u}, 1), {.mask = on_device(mask_of({{0, 0, 0, 1, 1, 1, 1, 1}}))});
    check_near(part(right, 0, 0, 5), op(u), 2e-6, "padding behind");
    check_near(part(left, 0, 3, 8), op(u), 2e-6, "padding before");
  }
}

BOOST_AUTO_TEST_CASE(no_document_sees_another) {
  for (const bool bidirectional : {false, true}) {
    HyenaConfig c = small();
    c.bidirectional = bidirectional;
    const Subject op(c);
    const PackedDocuments documents({{0, 7, 25}, {0}, {0, 1}}, 30, tests::tested_device());
    const HyenaSequence packed{.documents = &documents};
    Tensor u = normal({3, 30, 4}).set_requires_grad(true);
    const Tensor y = op(u, packed);
    for (const double value : {1e30, infinity, std::nan("")}) {
      const Tensor z = op(with_values(u, 0, 7, 25, value), packed);
      check_same_bits(part(z, 0, 0, 7), part(y, 0, 0, 7));
      check_same_bits(part(z, 0, 25, 30), part(y, 0, 25, 30));
      for (const int64_t b : {1, 2}) check_same_bits(part(z, b, 0, 30), part(y, b, 0, 30));
      BOOST_TEST(!(largest(part(z, 0, 7, 25)) <= largest(part(y, 0, 7, 25))));
    }
    backward(sum(part(y, 0, 7, 25)));
    BOOST_TEST(largest(part(u.grad(), 0, 0, 7)) == 0);
    BOOST_TEST(largest(part(u.grad(), 0, 7, 25)) > 0);
    BOOST_TEST(largest(part(u.grad(), 0, 25, 30)) == 0);
    BOOST_TEST(largest(narrow(u.grad(), 0, 1, 2)) == 0);
  }
}

BOOST_AUTO_TEST_CASE(a_packed_document_is_what_it_is_alone) {
  for (const int64_t num_blocks : {1, 4}) {
    HyenaConfig c = small();
    c.num_blocks = num_blocks;
    const Subject op(c);
    const std::vector<std::vector<int64_t>> starts = {{0, 7, 25}, {0, 39}};
    const PackedDocuments documents(starts, 40, tests::tested_device());
    const Tensor u = normal({2, 40, 4}), y = op(u, {.documents = &documents});
    for (const auto& [b, begin, end] : {std::tuple{0, 0, 7}, {0, 7, 25}, {0, 25, 40}, {1, 0, 39}, {1, 39, 40}}) {
      check_near(part(y, b, begin, end), op(part(u, b, begin, end)), 2e-6, message("document at ", b, ", ", begin));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_document_has_the_same_bits_wherever_it_is_packed) {
  const HyenaOperator op(small());
  const Tensor document = randn({1, 11, 4}), a = randn({1, 4, 4}), b = randn({1, 25, 4});
  const PackedDocuments first({{0, 4, 15}}, 40), second({{0, 25, 36}, {0, 11, 15}}, 40);
  const Tensor y = op(cat({a, document, b}, 1), {.documents = &first});
  const Tensor z = op(cat({cat({b, document, a}, 1), cat({document, a, b}, 1)}, 0), {.documents = &second});
  check_same_bits(part(z, 0, 25, 36), part(y, 0, 4, 15));
  check_same_bits(part(z, 1, 0, 11), part(y, 0, 4, 15));
}

BOOST_AUTO_TEST_CASE(padding_inside_documents_is_no_part_of_them) {
  const Subject op(small());
  const PackedDocuments documents({{0, 5}}, 9, tests::tested_device());
  const Tensor mask = on_device(mask_of({{1, 1, 1, 0, 0, 1, 1, 1, 0}}));
  const Tensor u = normal({1, 9, 4}), y = op(u, {.mask = mask, .documents = &documents});
  check_near(part(y, 0, 0, 3), op(part(u, 0, 0, 3)), 2e-6, "the first document");
  check_near(part(y, 0, 5, 8), op(part(u, 0, 5, 8)), 2e-6, "the second document");
  const Tensor other = with_values(with_values(u, 0, 3, 5, std::nan("")), 0, 8, 9, std::nan(""));
  check_same_bits(op(other, {.mask = mask, .documents = &documents}), y);
}

BOOST_AUTO_TEST_CASE(rows_may_be_longer_than_the_filters_when_their_documents_are_not) {
  const Subject op(small(16));
  const Tensor u = normal({1, 40, 4});
  const PackedDocuments fitting({{0, 16, 30}}, 40, tests::tested_device());
  const PackedDocuments too_long({{0, 17}}, 40, tests::tested_device());
  check_near(part(op(u, {.documents = &fitting}), 0, 16, 30), op(part(u, 0, 16, 30)), 2e-6, "y");
  check_throws<ValueError>([&] { op(u, {.documents = &too_long}); }, "HyenaFilter: 23 time steps exceed l_max 16");
}

BOOST_AUTO_TEST_CASE(an_empty_batch_has_no_documents) {
  const HyenaOperator op(small());
  const PackedDocuments none({}, 6);
  BOOST_TEST((op(randn({0, 6, 4}), {.documents = &none}).shape() == Shape{0, 6, 4}));
}

BOOST_AUTO_TEST_CASE(bidirectional_outputs_see_both_sides) {
  for (const int64_t taps : {0, 3}) {
    HyenaConfig c = small();
    c.bidirectional = true;
    c.short_filter = taps;
    const Subject op(c);
    for (const int64_t t : {0, 5, 11}) {
      Tensor u = normal({1, 12, 4}).set_requires_grad(true);
      backward(sum(part(op(u), 0, t, t + 1)));
      BOOST_TEST(amin(amax(abs(u.grad()), {0, 2})).item<double>() > 0);
    }
  }
}

BOOST_AUTO_TEST_CASE(masks_and_starts_that_do_not_fit_are_named) {
  const HyenaOperator op(small());
  const Tensor u = randn({2, 6, 4});
  check_throws<ShapeError>(
      [&] {
        op(u, {.mask = mask_of({{1, 1}})});
      },
      "the mask must be bool (B, T): u f32 [2, 6, 4] cpu:0, mask bool [1, 2] cpu:0");
  check_throws<ShapeError>([&] { op(u, {.mask = ones({2, 6})}); }, "the mask must be bool (B, T)");
  const PackedDocuments other({{0}}, 6);
  check_throws<ShapeError>([&] { op(u, {.documents = &other}); }, "of a batch of another shape than u f32 [2, 6, 4]");
  const auto refused = [](const std::vector<std::vector<int64_t>>& starts, const std::string& text) {
    check_throws<ValueError>([&] { PackedDocuments(starts, 6); }, text);
  };
  refused({{0}, {1}}, "the first document of row 1 must begin at 0");
  refused({{}}, "the first document of row 0 must begin at 0");
  refused({{0, 3, 3}}, "row 0 has a document from 3 to 3; starts must rise and stay below the 6 time steps");
  refused({{0, 6}}, "row 0 has a document from 6 to 6");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
