// SPDX-License-Identifier: Apache-2.0
// What the options of the implicit filter mean, and when filters are kept.
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/counters.hpp"
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

HyenaFilterConfig small() {
  return {.l_max = 20, .channels = 4, .order = 3, .embedding = 5, .hidden = 8, .sine_frequency = 1};
}

Tensor parameter_of(const Module& module, const std::string& wanted) {
  for (const auto& [name, tensor] : module.named_parameters()) {
    if (name == wanted) return tensor;
  }
  BOOST_FAIL("no parameter " << wanted);
  return {};
}

int64_t kernel_calls_of(const HyenaFilter& filter, int64_t time) {
  reset_counters();
  filter(time);
  return counters().kernel_calls;
}

BOOST_AUTO_TEST_SUITE(hyena_filter)

BOOST_AUTO_TEST_CASE(a_continued_grid_begins_with_the_trained_one) {
  for (const bool normalized : {false, true}) {
    HyenaFilterConfig c = small();
    c.normalized = normalized;
    const HyenaFilter trained(c);
    c.extend_to = 50;
    HyenaFilter continued(c);
    continued.load_state_dict(trained.state_dict());
    BOOST_TEST(continued.longest() == 50);
    const Tensor h = continued(50);
    check_same_bits(contiguous(narrow(h, 2, 0, 20)), trained(20));
    BOOST_TEST(amin(amax(abs(h), {0, 1})).item<double>() > 0);
    check_throws<ValueError>([&] { continued(51); }, "HyenaFilter: 51 time steps exceed extend_to 50");
  }
}

BOOST_AUTO_TEST_CASE(positions_behind_the_grid_keep_its_spacing) {
  HyenaFilterConfig c = small();
  c.extend_to = 30;
  const PositionalEmbedding grid(c);
  const auto t = grid.t(30).to_vector<double>(), z = grid.z(30).to_vector<double>();
  const double pi = std::acos(-1.0);
  for (const size_t i : {0, 19, 20, 29}) {
    const auto position = static_cast<double>(i);
    BOOST_TEST(std::abs(t[i] - position / 19) <= 1e-6);
    BOOST_TEST(std::abs(z[5 * i] - position / 19) <= 1e-6);
    BOOST_TEST(std::abs(z[5 * i + 2] - std::cos(1.0 * 2 * pi * position / 20)) <= 1e-6);
    BOOST_TEST(std::abs(z[5 * i + 4] + std::sin(1.0 * 2 * pi * position / 20)) <= 1e-6);
  }
  c.l_max = 1;
  BOOST_TEST((PositionalEmbedding(c).t(3).to_vector<double>() == std::vector<double>{0, 1, 2}));
}

BOOST_AUTO_TEST_CASE(a_window_that_is_off_leaves_the_network_alone) {
  HyenaFilterConfig c = small();
  c.window = false;
  const HyenaFilter plain(c);
  c.window = true;
  c.shift = 0.25;
  HyenaFilter windowed(c);
  windowed.load_state_dict(plain.state_dict());
  const Tensor t = reshape(windowed.state_dict()[2].second, {1, 20});
  for (const auto& [name, tensor] : windowed.state_dict()) {
    if (name != "modulation.deltas") continue;
    const Tensor window = exp(neg(reshape(abs(tensor), {8, 1}) * t)) + 0.25;
    check_near(windowed(20), plain(20) * reshape(window, {4, 2, 20}), 1e-6, "h");
  }
}

BOOST_AUTO_TEST_CASE(separate_frequencies_belong_to_their_layers) {
  HyenaFilterConfig c = small();
  const HyenaFilter shared(c);
  c.shared_frequency = false;
  const HyenaFilter separate(c);
  BOOST_TEST(separate.num_parameters() == shared.num_parameters() + 2 * 8);
  const Tensor before = separate(20);
  const NoGrad no_grad;
  copy_into(full({1, 8}, 3), parameter_of(separate, "implicit_filter.3.freq"));
  BOOST_TEST(parameter_of(separate, "implicit_filter.1.freq").to_vector<float>() == std::vector<float>(8, 1.0F));
  BOOST_TEST(amax(abs(separate(20) - before)).item<double>() > 1e-3);
}

BOOST_AUTO_TEST_CASE(a_trained_window_is_a_parameter) {
  HyenaFilterConfig c = small();
  c.train_window = true;
  BOOST_TEST((parameter_of(HyenaFilter(c), "modulation.deltas").shape() == Shape{1, 1, 8}));
}

BOOST_AUTO_TEST_CASE(without_a_skip_there_is_no_such_parameter) {
  HyenaFilterConfig c = small();
  c.skip = false;
  const HyenaFilter filter(c);
  BOOST_TEST(!filter.skip(0).defined());
  for (const auto& [name, tensor] : filter.state_dict()) BOOST_TEST(name != "bias");
}

BOOST_AUTO_TEST_CASE(filters_are_computed_once_until_something_changes) {
  HyenaFilter filter(small());
  filter.eval();
  const NoGrad no_grad;
  const Tensor h = clone(filter(20));
  BOOST_TEST(kernel_calls_of(filter, 20) == 0);
  BOOST_TEST(kernel_calls_of(filter, 7) == 0);
  check_same_bits(contiguous(filter(7)), contiguous(narrow(h, 2, 0, 7)));

  const Tensor weight = parameter_of(filter, "implicit_filter.2.weight"), old = clone(weight);
  copy_into(old * 2, weight);
  BOOST_TEST(amax(abs(filter(20) - h)).item<double>() > 0);
  copy_into(old, weight);
  check_same_bits(filter(20), h);
  filter.to(DType::f64);
  BOOST_TEST((filter(20).dtype() == DType::f64));
  filter.to(DType::f32);
  check_same_bits(filter(20), h);
  HyenaFilter other(small());
  fill(parameter_of(other, "bias"), 0);
  filter.load_state_dict(other.state_dict());
  check_same_bits(filter(20), other(20));
}

BOOST_AUTO_TEST_CASE(no_filter_is_kept_while_training_or_for_a_gradient) {
  HyenaFilter filter(small());
  {
    const NoGrad no_grad;
    filter(20);
    BOOST_TEST(kernel_calls_of(filter, 20) > 0);
  }
  filter.eval();
  BOOST_TEST(filter(20).requires_grad());
  const NoGrad no_grad;
  filter(20);
  BOOST_TEST(kernel_calls_of(filter, 20) == 0);
  filter.train();
  filter.eval();  // what trained in between may have left no trace on the host
  BOOST_TEST(kernel_calls_of(filter, 20) > 0);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
