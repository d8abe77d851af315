// SPDX-License-Identifier: Apache-2.0
// What generation costs: operations that grow as L log^2 L, and far less time than a forward over everything per token.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <cmath>

#include "autograd/grad_mode.hpp"
#include "core/counters.hpp"
#include "core/factory.hpp"
#include "nn/models/hyena_moe_lm.hpp"
#include "ops/shape.hpp"
#include "train/generate.hpp"

namespace mahia::train {
namespace {

// Operations that a mixer of one channel needs for L outputs, divided by L log2(L)^2.
double scaled_operations(int64_t length) {
  nn::HyenaOperator mixer({.width = 1, .l_max = length, .filter = {.embedding = 3, .hidden = 2}});
  mixer.eval();
  nn::HyenaState state = mixer.start(1, length);
  const Tensor u = randn({1, 1, 1});
  const double before = counters().flops;
  count_costs(true);
  for (int64_t t = 0; t < length; ++t) mixer.advance(u, state);
  count_costs(false);
  const double log_length = std::log2(static_cast<double>(length));
  return (counters().flops - before) / (static_cast<double>(length) * log_length * log_length);
}

template <class Fn>
double seconds_of(Fn&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(generation_cost)

BOOST_AUTO_TEST_CASE(operations_grow_as_l_log_squared_l) {
  std::vector<double> scaled;
  for (int64_t length = 512; length <= 65536; length *= 2) {
    scaled.push_back(scaled_operations(length));
    BOOST_TEST_MESSAGE("L " << length << ": operations / (L log2(L)^2) = " << scaled.back());
  }
  const auto [least, most] = std::ranges::minmax(scaled);
  BOOST_TEST(most <= 1.5 * least);
  BOOST_TEST(least > 0);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(slow_generation)

BOOST_AUTO_TEST_CASE(four_thousand_tokens_take_a_twentieth_of_a_forward_each) {
  constexpr int64_t length = 4096, samples = 16;
  nn::models::HyenaMoeLM model({.width = 64, .layers = 2, .l_max = length + 1, .experts = 4, .hidden = 128});
  model.eval();
  const double written =
      seconds_of([&] { generate(model, "a", byte_vocabulary(), {.tokens = length, .sampling = {.temperature = 0}}); });
  const Tensor tokens = randint(0, 256, {1, length});
  const NoGrad no_grad;
  double read_again = 0;  // at lengths in the middles of sixteenths
  for (int64_t i = 0; i < samples; ++i) {
    const Tensor so_far = narrow(tokens, 1, 0, length * (2 * i + 1) / (2 * samples));
    read_again += seconds_of([&] { model.last_logits(so_far); });
  }
  read_again *= static_cast<double>(length) / samples;
  BOOST_TEST_MESSAGE("written in " << written << " s, by a forward per token in " << read_again << " s");
  BOOST_TEST(read_again >= 20 * written);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace mahia::train
