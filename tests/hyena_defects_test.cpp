// SPDX-License-Identifier: Apache-2.0
// What the authors' implementation offers and gets wrong (docs/hyena.md, "What differs from the reference"), one case
// each.
#include <boost/test/unit_test.hpp>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "nn/hyena.hpp"
#include "ops/binary.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/fixture.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::nn {
namespace {

using tests::check_near;
using tests::check_same_bits;
using tests::check_throws;

HyenaConfig small(int64_t l_max = 40) {
  return {.width = 4, .l_max = l_max, .filter = {.embedding = 5, .hidden = 8, .sine_frequency = 1, .shift = 0.1}};
}

Tensor parameter_of(const Module& module, const std::string& wanted) {
  for (const auto& [name, tensor] : module.named_parameters()) {
    if (name == wanted) return tensor;
  }
  BOOST_FAIL("no parameter " << wanted);
  return {};
}

double largest(const Tensor& x) { return amax(abs(x)).item<double>(); }

// |d sum(y[t]) / du| of each step: (T).
Tensor reach(const HyenaOperator& op, int64_t t, int64_t time) {
  Tensor u = randn({1, time, 4}, DType::f64).set_requires_grad(true);
  backward(sum(narrow(op(u), 1, t, 1)));
  return amax(abs(u.grad()), {0, 2});
}

BOOST_AUTO_TEST_SUITE(hyena_defects)

// The reference stops with a shape error for more than one head.
BOOST_AUTO_TEST_CASE(heads_share_the_filters_of_one) {
  HyenaConfig c = small();
  c.num_heads = 2;
  const HyenaOperator op(c);
  BOOST_TEST((parameter_of(op, "filter_fn.bias").shape() == Shape{2}));
  const NoGrad no_grad;
  for (const char* name : {"in_proj.weight", "in_proj.bias", "short_filter.weight", "short_filter.bias"}) {
    for (int64_t part = 0; part < 3; ++part) {  // x^0, x^1, v of the second head become those of the first
      const Tensor rows = narrow(parameter_of(op, name), 0, 4 * part, 4);
      copy_into(narrow(rows, 0, 0, 2), narrow(rows, 0, 2, 2));
    }
  }
  const Tensor out = zeros({4, 4});
  for (int64_t i = 0; i < 4; ++i) fill(select(select(out, 0, i), 0, i), 1);
  copy_into(out, parameter_of(op, "out_proj.weight"));
  copy_into(zeros({4}), parameter_of(op, "out_proj.bias"));
  const Tensor y = op(randn({2, 9, 4}));
  check_same_bits(contiguous(narrow(y, 2, 2, 2)), contiguous(narrow(y, 2, 0, 2)));
  BOOST_TEST(largest(narrow(y, 2, 0, 1) - narrow(y, 2, 1, 1)) > 0);
}

// The reference stops with a shape error for an inner factor above 1.
BOOST_AUTO_TEST_CASE(an_inner_factor_widens_the_recurrence) {
  HyenaConfig c = small();
  c.inner_factor = 3;
  const HyenaOperator op(c);
  BOOST_TEST((parameter_of(op, "in_proj.weight").shape() == Shape{36, 4}));
  BOOST_TEST((parameter_of(op, "out_proj.weight").shape() == Shape{4, 12}));
  BOOST_TEST((parameter_of(op, "filter_fn.bias").shape() == Shape{12}));
  BOOST_TEST((op(randn({2, 9, 4})).shape() == Shape{2, 9, 4}));
}

// In the reference a block's filter is folded into the block's own length, and its first outputs see its last inputs.
BOOST_AUTO_TEST_CASE(blocks_see_neither_the_future_nor_each_other) {
  HyenaConfig c = small();
  c.num_blocks = 4;
  c.short_filter = 1;
  HyenaOperator op(c);
  op.to(DType::f64);
  for (const int64_t time : {40, 37, 45}) {  // whole blocks of ten, a part of one, more blocks than l_max has
    for (const int64_t t : {int64_t{0}, int64_t{9}, int64_t{10}, int64_t{23}, time - 1}) {
      const auto from = reach(op, t, time).to_vector<double>();
      for (int64_t s = 0; s < time; ++s) {
        const bool is_seen = s <= t && s / 10 == t / 10;
        BOOST_TEST((is_seen ? from[static_cast<size_t>(s)] > 1e-9 : from[static_cast<size_t>(s)] < 1e-14),
                   time << " steps: " << t << " from " << s << ": " << from[static_cast<size_t>(s)]);
      }
    }
  }
}

// The reference divides by the sum over channels.
BOOST_AUTO_TEST_CASE(filters_are_normalized_over_time) {
  for (const int64_t order : {2, 3}) {
    HyenaConfig c = small();
    c.filter.normalized = true;
    c.filter.l_max = c.l_max;
    c.filter.channels = 4;
    c.filter.order = order;
    const HyenaFilter filter(c.filter);
    check_near(sum(abs(filter(40)), {2}), ones({4, order - 1}), 1e-6, "size of each filter");
    check_same_bits(filter(13), contiguous(narrow(filter(40), 2, 0, 13)));  // a prefix knows nothing of T
  }
}

// The reference drops what is behind l_max without a word.
BOOST_AUTO_TEST_CASE(inputs_longer_than_l_max_are_refused_or_continued) {
  HyenaConfig c = small(16);
  const HyenaOperator trained(c);
  check_throws<ValueError>(
      [&] {
        trained(randn({1, 17, 4}));
      },
      "HyenaFilter: 17 time steps exceed l_max 16; build the model with a larger l_max");
  c.filter.extend_to = 40;
  HyenaOperator continued(c);
  continued.load_state_dict(trained.state_dict());
  const Tensor u = randn({1, 40, 4}), y = continued(u);
  BOOST_TEST((y.shape() == Shape{1, 40, 4}));
  check_near(narrow(y, 1, 0, 16), trained(contiguous(narrow(u, 1, 0, 16))), 2e-6, "the first l_max steps");
  continued.to(DType::f64);
  BOOST_TEST(amin(reach(continued, 39, 40)).item<double>() > 1e-9);
}

// The reference accepts a filter dropout and does nothing.
BOOST_AUTO_TEST_CASE(filter_dropout_drops_taps_while_training) {
  HyenaFilterConfig c{.l_max = 500, .channels = 4, .embedding = 5, .hidden = 8, .dropout = 0.25, .shift = 1};
  HyenaFilter filter(c);
  const Tensor dropped = filter(500);
  filter.eval();
  const auto whole = filter(500).to_vector<float>(), kept = dropped.to_vector<float>();
  int64_t zeros = 0;
  for (size_t i = 0; i < kept.size(); ++i) {
    if (kept[i] == 0) {
      ++zeros;
    } else {
      BOOST_TEST(std::abs(kept[i] - whole[i] / 0.75F) <= 1e-5F * std::abs(whole[i]));
    }
  }
  BOOST_TEST(std::abs(static_cast<double>(zeros) / 2000 - 0.25) < 0.05);
}

// Packages that speed the reference up refuse lengths, and one turns circular when its transform is as long as T.
BOOST_AUTO_TEST_CASE(every_length_runs_and_none_is_circular) {
  HyenaOperator op(small(70));
  op.to(DType::f64);
  for (const int64_t time : {1, 2, 3, 5, 16, 31, 32, 33, 64, 67}) {
    const auto from = reach(op, 0, time).to_vector<double>();
    BOOST_TEST(from[0] > 1e-9);
    for (size_t s = 1; s < from.size(); ++s) BOOST_TEST(from[s] < 1e-14);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
