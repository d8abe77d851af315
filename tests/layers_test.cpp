// SPDX-License-Identifier: Apache-2.0
// Layers: initial values, dropout, running statistics, errors; their values against PyTorch are in reference_nn_test.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "autograd/backward.hpp"
#include "autograd/checkpoint.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "nn/containers.hpp"
#include "nn/conv1d.hpp"
#include "nn/dropout.hpp"
#include "nn/embedding.hpp"
#include "nn/linear.hpp"
#include "nn/norm.hpp"
#include "ops/binary.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::nn {
namespace {

using tests::check_same_bits;
using tests::check_throws;

Tensor parameter_of(const Module& module, const std::string& wanted) {
  for (const auto& [name, tensor] : module.named_parameters()) {
    if (name == wanted) return tensor;
  }
  BOOST_FAIL("no parameter " << wanted);
  return {};
}

// Uniform in [-bound, bound): inside, close to the ends, with the mean and variance that follow.
void check_uniform(const Tensor& x, double bound) {
  const std::vector<double> v = x.to_vector<double>();
  const auto [low, high] = std::minmax_element(v.begin(), v.end());
  const auto n = static_cast<double>(v.size());
  BOOST_TEST((*low >= -bound && *high <= bound));
  BOOST_TEST((*low<-0.9 * bound&& * high> 0.9 * bound));
  BOOST_TEST(std::abs(mean(x).item<double>()) < 4 * bound / std::sqrt(3 * n));
  BOOST_TEST(std::abs(var(x).item<double>() / (bound * bound / 3) - 1) < 4 * std::sqrt(0.8 / n));
}

BOOST_AUTO_TEST_SUITE(layers)

BOOST_AUTO_TEST_CASE(initial_values_have_pytorchs_distributions) {
  const Linear linear(64, 200);
  check_uniform(parameter_of(linear, "weight"), 1.0 / 8);
  check_uniform(parameter_of(linear, "bias"), 1.0 / 8);
  const Conv1d conv(12, 600, 3, {.groups = 3});
  check_uniform(parameter_of(conv, "weight"), 1 / std::sqrt(12.0));
  check_uniform(parameter_of(conv, "bias"), 1 / std::sqrt(12.0));
  const Tensor rows = parameter_of(Embedding(100, 200), "weight");
  BOOST_TEST(std::abs(mean(rows).item<double>()) < 4 / std::sqrt(20000.0));
  BOOST_TEST(std::abs(var(rows).item<double>() - 1) < 4 * std::sqrt(2 / 20000.0));
  for (const auto& [name, tensor] : LayerNorm(5).state_dict()) {
    check_same_bits(tensor, name == "weight" ? ones({5}) : zeros({5}));
  }
  check_same_bits(parameter_of(RMSNorm(5), "weight"), ones({5}));
  for (const auto& [name, tensor] : BatchNorm1d(5).state_dict()) {
    const bool one = name == "weight" || name == "running_var";
    if (name != "num_batches_tracked") check_same_bits(tensor, one ? ones({5}) : zeros({5}));
  }
}

BOOST_AUTO_TEST_CASE(initial_values_depend_on_seed_and_path_alone) {
  Sequential small, large;
  small.append<Linear>(4, 4);
  large.append<Linear>(4, 4);
  large.append<Linear>(4, 4);
  check_same_bits(parameter_of(small, "0.weight"), parameter_of(large, "0.weight"));
  const auto values = [](const Tensor& x) { return x.to_vector<float>(); };
  BOOST_TEST(values(parameter_of(large, "0.weight")) != values(parameter_of(large, "1.weight")));
  const uint64_t before = random_seed();
  manual_seed(before + 1);
  Sequential other;
  other.append<Linear>(4, 4);
  manual_seed(before);
  BOOST_TEST(values(parameter_of(small, "0.weight")) != values(parameter_of(other, "0.weight")));
}

BOOST_AUTO_TEST_CASE(dropout_draws_by_path_and_step_and_rests_in_eval) {
  Sequential net;
  const Dropout& first = net.append<Dropout>(0.25);
  const Dropout& second = net.append<Dropout>(0.25);
  const Tensor x = ones({4000});
  const uint64_t step = random_step();
  set_random_step(step + 1);
  const std::vector<float> a = first(x).to_vector<float>(), b = first(x).to_vector<float>();
  const std::vector<float> c = second(x).to_vector<float>();
  set_random_step(step + 2);
  const std::vector<float> later = first(x).to_vector<float>();
  set_random_step(step + 1);
  BOOST_TEST(first(x).to_vector<float>() == a);
  set_random_step(step);
  BOOST_TEST((a != b && a != c && a != later));
  const auto kept = std::count_if(a.begin(), a.end(), [](float v) { return v != 0; });
  BOOST_TEST(std::abs(static_cast<double>(kept) - 3000) < 4 * std::sqrt(4000 * 0.25 * 0.75));
  for (const float v : a) BOOST_TEST((v == 0 || v == 1 / 0.75f));
  net.eval();
  check_same_bits(net(x), x);
}

BOOST_AUTO_TEST_CASE(batch_norm_tracks_while_training_only) {
  BatchNorm1d norm(2);
  const Tensor x = Tensor::from<float>({0, 10, 2, 14}, {2, 2});
  norm(x);
  check_same_bits(norm.state_dict()[2].second, Tensor::from<float>({0.1f, 1.2f}, {2}));
  BOOST_TEST(norm.state_dict()[4].second.item<int64_t>() == 1);
  norm.eval();
  norm(x);
  BOOST_TEST(norm.state_dict()[4].second.item<int64_t>() == 1);
  norm.train();
  Tensor leaf = clone(x).set_requires_grad(true);
  const Tensor y = checkpoint([&](const Tensors& in) { return norm(in[0]); }, {leaf});
  backward(sum(y * y));
  BOOST_TEST(norm.state_dict()[4].second.item<int64_t>() == 2);  // the second run counts nothing
}

BOOST_AUTO_TEST_CASE(a_padding_row_is_zero_and_stays) {
  const Embedding rows(4, 3, 1);
  const Tensor ids = Tensor::from<int64_t>({1, 2, 1}, {3});
  const Tensor y = rows(ids);
  check_same_bits(select(y, 0, 0), zeros({3}));
  backward(sum(y));
  check_same_bits(rows.weight().grad(), Tensor::from<float>({0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0}, {4, 3}));
  check_throws<IndexError>([] { Embedding(4, 3, 4); }, "Embedding: padding is 4, must be in [0, 4)");
}

BOOST_AUTO_TEST_CASE(channel_first_maps_equal_the_plain_one) {
  const Linear linear(5, 7);
  const Tensor x = randn({2, 3, 5});
  check_same_bits(contiguous(permute(linear.to_channels(x), {1, 2, 0})), linear(x));
  check_same_bits(linear.from_channels(contiguous(permute(x, {2, 0, 1}))), linear(x));
}

BOOST_AUTO_TEST_CASE(sizes_that_make_no_layer_are_named) {
  check_throws<ValueError>([] { Linear(0, 3); }, "Linear: in 0 and out 3 must be at least 1");
  check_throws<ValueError>([] { Embedding(5, -1); }, "Embedding: num_embeddings 5 and width -1 must be at least 1");
  check_throws<ValueError>([] { Conv1d(4, 6, 3, {.groups = 4}); },
                           "Conv1d: in 4, out 6, taps 3 and groups 4 do not fit");
  check_throws<ValueError>([] { Dropout(1.5); }, "Dropout: p is 1.5, must be in [0, 1]");
  check_throws<ValueError>([] { LayerNorm(0); }, "LayerNorm: width is 0, must be at least 1");
  check_throws<ValueError>([] { RMSNorm(0); }, "RMSNorm: width is 0, must be at least 1");
  check_throws<ValueError>([] { BatchNorm1d(-2); }, "BatchNorm1d: channels is -2, must be at least 1");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
