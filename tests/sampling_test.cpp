// SPDX-License-Identifier: Apache-2.0
// Drawing tokens from logits: which may be drawn, how often, and what is refused.
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <set>

#include "core/error.hpp"
#include "tests/support/op_spec.hpp"
#include "train/sampling.hpp"

namespace mahia::train {
namespace {

using tests::check_throws;

// Probabilities 0.4, 0.1, 0.3, 0.2.
const std::vector<float> some_logits = {std::log(0.4f), std::log(0.1f), std::log(0.3f), std::log(0.2f)};

// How often each of four tokens is drawn by evenly spaced numbers.
std::vector<double> shares(const SamplingOptions& o, const std::vector<float>& logits = some_logits,
                           const std::vector<bool>& seen = {false, false, false, false}) {
  constexpr int draws = 2000;
  std::vector<double> counts(4);
  for (int i = 0; i < draws; ++i) {
    const auto token = static_cast<size_t>(sample(logits, seen, o, (i + 0.5) / draws));
    counts[token] += 1.0 / draws;
  }
  return counts;
}

void check_shares(const std::vector<double>& actual, const std::vector<double>& expected) {
  for (size_t i = 0; i < 4; ++i)
    BOOST_TEST(std::abs(actual[i] - expected[i]) < 2e-3, "token " << i << ": " << actual[i]);
}

BOOST_AUTO_TEST_SUITE(sampling)

BOOST_AUTO_TEST_CASE(tokens_are_drawn_as_often_as_their_probabilities_say) {
  check_shares(shares({}), {0.4, 0.1, 0.3, 0.2});
  const double total = 0.16 + 0.01 + 0.09 + 0.04;
  check_shares(shares({.temperature = 0.5}), {0.16 / total, 0.01 / total, 0.09 / total, 0.04 / total});
  check_shares(shares({.temperature = 0}), {1, 0, 0, 0});
}

BOOST_AUTO_TEST_CASE(top_k_leaves_the_k_likeliest) {
  check_shares(shares({.top_k = 2}), {4.0 / 7, 0, 3.0 / 7, 0});
  check_shares(shares({.top_k = 1}), {1, 0, 0, 0});
  check_shares(shares({.top_k = 9}), {0.4, 0.1, 0.3, 0.2});
  check_shares(shares({.top_k = 2}, {1, 1, 1, 1}), {0.5, 0.5, 0, 0});  // equals by number
}

BOOST_AUTO_TEST_CASE(top_p_leaves_the_fewest_that_reach_it) {
  check_shares(shares({.top_p = 0.39}), {1, 0, 0, 0});
  check_shares(shares({.top_p = 0.5}), {4.0 / 7, 0, 3.0 / 7, 0});
  check_shares(shares({.top_p = 0.85}), {4.0 / 9, 0, 3.0 / 9, 2.0 / 9});
  check_shares(shares({.top_p = 0.95}), {0.4, 0.1, 0.3, 0.2});
  check_shares(shares({.top_p = 1e-9}), {1, 0, 0, 0});
  check_shares(shares({.top_k = 3, .top_p = 0.7}), {4.0 / 7, 0, 3.0 / 7, 0});  // of what top_k left: 0.44, 0.33, 0.22
}

BOOST_AUTO_TEST_CASE(the_penalty_lowers_what_is_there_already_whatever_its_sign) {
  const std::vector<bool> seen = {true, false, true, false};
  const auto softmax_of = [](const std::vector<double>& x) {
    std::vector<double> p;
    double total = 0;
    for (const double v : x) total += std::exp(v);
    for (const double v : x) p.push_back(std::exp(v) / total);
    return p;
  };
  check_shares(shares({.repetition_penalty = 2}, {1, 1, -1, -1}, seen), softmax_of({0.5, 1, -2, -1}));
  BOOST_TEST(sample(std::vector<float>{1.0f, 0.9f, 0, 0}, seen, {.repetition_penalty = 1.5, .temperature = 0}, 0) == 1);
  BOOST_TEST(sample(std::vector<float>{1.0f, 0.9f, 0, 0}, seen, {.temperature = 0}, 0) == 0);
}

BOOST_AUTO_TEST_CASE(impossible_tokens_are_never_drawn_and_bad_logits_are_refused) {
  const float infinity = std::numeric_limits<float>::infinity();
  check_shares(shares({}, {0, -infinity, 0, -infinity}), {0.5, 0, 0.5, 0});
  const std::vector<bool> seen(2);
  BOOST_TEST(sample(std::vector<float>{0, -infinity}, seen, {}, std::nextafter(1.0, 0.0)) == 0);
  check_throws<ValueError>([&] { sample(std::vector<float>{0, NAN}, seen, {}, 0); }, "the logit of token 1 is NaN");
  check_throws<ValueError>([&] { sample(std::vector<float>{0, infinity}, seen, {}, 0); }, "largest of 2 logits is inf");
  check_throws<ValueError>([&] { sample(std::vector<float>{-infinity, -infinity}, seen, {}, 0); }, "is -inf");
}

BOOST_AUTO_TEST_CASE(options_out_of_range_are_named) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  for (const double bad : {-0.1, nan, infinity}) {
    check_throws<ValueError>([&] { validate({.temperature = bad}); }, "temperature is ");
  }
  for (const double bad : {0.0, -1.0, nan, infinity}) {
    check_throws<ValueError>([&] { validate({.repetition_penalty = bad}); }, "must be a positive number");
  }
  for (const double bad : {0.0, 1.01, nan}) check_throws<ValueError>([&] { validate({.top_p = bad}); }, "in (0, 1]");
  check_throws<ValueError>([] { validate({.top_k = -1}); }, "top_k is -1, must not be negative");
  validate({.repetition_penalty = 1.2, .temperature = 0, .top_k = 5, .top_p = 1});
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
