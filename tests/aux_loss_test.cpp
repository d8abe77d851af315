// SPDX-License-Identifier: Apache-2.0
// The auxiliary losses against plain loops, central differences and closed forms in f64.
#include "nn/aux_loss.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "core/factory.hpp"
#include "nn/models/hyena_moe_lm.hpp"
#include "ops/binary.hpp"
#include "ops/compare.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "ops/softmax.hpp"
#include "ops/sort.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::nn {
namespace {

using tests::check_close;
using tests::check_throws;
using tests::to_array;

constexpr int64_t batch = 3, time = 5, experts = 4, k = 2, tokens = batch * time;
constexpr std::initializer_list<AuxLoss> every_loss = {AuxLoss::balance, AuxLoss::sequence, AuxLoss::importance,
                                                       AuxLoss::z_loss,  AuxLoss::entropy,  AuxLoss::variance};

Tensor some_logits() { return randn({tokens, experts}, {random_key("tests", "aux_loss")}, DType::f64) * 1.5; }

Tensor mask_of(const std::vector<bool>& valid) {
  return gt(Tensor::from(std::vector<float>(valid.begin(), valid.end()), {tokens}), 0);
}

// The last two tokens of the first sequence and the whole second one are padding.
std::vector<bool> with_padding() {
  std::vector<bool> valid(tokens, true);
  for (size_t t = 3; t < 10; ++t) valid[t] = false;
  return valid;
}

// The routing of the given logits; f is that of `choices`.
RoutedTokens routed(const Tensor& logits, const Tensor& choices, const std::vector<bool>& valid, bool masked) {
  const Tensor indices = topk(choices, k).indices;
  const Tensor mask = masked ? mask_of(valid) : Tensor();
  const Tensor counts =
      sequence_counts(reshape(indices, {1, tokens, k}), experts, masked ? reshape(mask, {1, tokens}) : Tensor());
  return {logits, softmax(logits), indices, reshape(counts, {experts}), batch, mask};
}

struct Sums {
  double tokens = 0, z2 = 0, entropy = 0;
  std::vector<double> p = std::vector<double>(experts), n = std::vector<double>(experts);
};

// Sums over the valid tokens [first, last).
Sums sums_of(const RoutedTokens& r, const std::vector<bool>& valid, int64_t first, int64_t last) {
  Sums s;
  const tests::Array z = to_array(r.logits), chosen = to_array(r.indices);
  for (int64_t t = first; t < last; ++t) {
    if (!valid[static_cast<size_t>(t)]) continue;
    double total = 0;
    for (int64_t e = 0; e < experts; ++e) total += std::exp(z[t * experts + e]);
    for (int64_t e = 0; e < experts; ++e) {
      const double p = std::exp(z[t * experts + e]) / total;
      s.p[static_cast<size_t>(e)] += p;
      s.entropy -= p * std::log(p);
    }
    for (int64_t j = 0; j < k; ++j) ++s.n[static_cast<size_t>(chosen[t * k + j])];
    s.z2 += std::log(total) * std::log(total);
    ++s.tokens;
  }
  return s;
}

double switch_of(const Sums& s) {
  double loss = 0;
  for (size_t e = 0; e < experts; ++e) loss += experts * s.n[e] / (k * s.tokens) * s.p[e] / s.tokens;
  return loss;
}

double reference_of(AuxLoss kind, const RoutedTokens& r, const std::vector<bool>& valid) {
  const Sums all = sums_of(r, valid, 0, tokens);
  double sequences = 0, by_sequence = 0, variance = 0, spread = 0, together = 0;
  for (int64_t b = 0; b < batch; ++b) {
    const Sums s = sums_of(r, valid, b * time, (b + 1) * time);
    if (s.tokens == 0) continue;
    ++sequences;
    by_sequence += switch_of(s);
    for (const double p : s.p) variance += std::pow(p / s.tokens - 1.0 / experts, 2);
  }
  const double middle = all.tokens / experts;
  for (const double p : all.p) spread += std::pow(p - middle, 2) / experts;
  for (const double p : all.p) together -= p / all.tokens * std::log(p / all.tokens);
  switch (kind) {
    case AuxLoss::balance:
      return switch_of(all);
    case AuxLoss::sequence:
      return by_sequence / sequences;
    case AuxLoss::importance:
      return spread / (middle * middle);
    case AuxLoss::z_loss:
      return all.z2 / all.tokens;
    case AuxLoss::entropy:
      return all.entropy / all.tokens - together;
    default:
      return variance / sequences;
  }
}

BOOST_AUTO_TEST_SUITE(aux_loss)

BOOST_AUTO_TEST_CASE(every_loss_equals_plain_loops_with_and_without_padding) {
  const Tensor z = some_logits();
  for (const bool masked : {false, true}) {
    const std::vector<bool> valid = masked ? with_padding() : std::vector<bool>(tokens, true);
    const RoutedTokens r = routed(z, z, valid, masked);
    const AuxLosses losses = aux_losses(every_loss, r);
    for (const AuxLoss kind : every_loss) {
      const double expected = reference_of(kind, r, valid);
      BOOST_TEST(losses[kind].rank() == 0);
      BOOST_TEST(std::abs(losses[kind].item<double>() - expected) <= 1e-12 * (1 + std::abs(expected)),
                 aux_loss_names[static_cast<size_t>(kind)] << (masked ? " with padding: " : ": ")
                                                           << losses[kind].item<double>() << ", expected " << expected);
    }
  }
}

// The choices stay those of the first logits: no gradient goes through them.
BOOST_AUTO_TEST_CASE(gradients_equal_central_differences_with_the_choices_held) {
  const Tensor choices = some_logits();
  for (const bool masked : {false, true}) {
    const std::vector<bool> valid = masked ? with_padding() : std::vector<bool>(tokens, true);
    for (const AuxLoss kind : every_loss) {
      const Tensor leaf = some_logits().detach().set_requires_grad(true);
      backward(aux_losses({kind}, routed(leaf, choices, valid, masked))[kind]);
      const std::vector<double> grad = leaf.grad().to_vector<double>();
      std::vector<double> values = leaf.to_vector<double>();
      const NoGrad no_grad;
      const auto loss_at = [&](size_t i, double value) {
        std::vector<double> moved = values;
        moved[i] = value;
        const Tensor z = Tensor::from(moved, {tokens, experts});
        return aux_losses({kind}, routed(z, choices, valid, masked))[kind].item<double>();
      };
      for (size_t i = 0; i < values.size(); ++i) {
        const double h = 1e-6, numeric = (loss_at(i, values[i] + h) - loss_at(i, values[i] - h)) / (2 * h);
        BOOST_TEST(
            std::abs(static_cast<double>(grad[i]) - numeric) <= 1e-6 + 1e-5 * std::abs(numeric),
            aux_loss_names[static_cast<size_t>(kind)] << "[" << i << "]: " << grad[i] << ", numeric " << numeric);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(the_variance_has_its_closed_form_gradient) {
  const Tensor z = some_logits().detach().set_requires_grad(true);
  const Tensor p = reshape(softmax(z), {batch, time, experts});
  const Tensor loss = variance_loss(p);
  const Tensor q = mean(p.detach(), {1});
  BOOST_TEST(loss.item<double>() == (var(q, {}, 0) * double{experts}).item<double>(),
             boost::test_tools::tolerance(1e-12));
  backward(loss);
  const NoGrad no_grad;
  const Tensor values = p.detach(), wide = unsqueeze(q, 1);
  const Tensor expected = values * (wide - sum(wide * values, {2}, true)) * (2.0 / (batch * time));
  check_close(z.grad(), to_array(reshape(expected, {tokens, experts})), {1e-6, 1e-9});
}

BOOST_AUTO_TEST_CASE(perfect_balance_has_known_values) {
  const Tensor z = zeros({8, 4}, DType::f64);
  const Tensor each = reshape(
      Tensor::from({int64_t{0}, int64_t{1}, int64_t{2}, int64_t{3}, int64_t{3}, int64_t{2}, int64_t{1}, int64_t{0}},
                   {8}),
      {8, 1});
  const RoutedTokens r{z, softmax(z), each, Tensor::from({int64_t{2}, int64_t{2}, int64_t{2}, int64_t{2}}, {4}), 2};
  const AuxLosses losses = aux_losses(every_loss, r);
  const double log_e = std::log(4.0);
  const double expected[] = {1, 1, 0, log_e * log_e, 0, 0};
  for (const AuxLoss kind : every_loss) {
    BOOST_TEST(std::abs(losses[kind].item<double>() - expected[static_cast<size_t>(kind)]) < 1e-14);
  }
}

BOOST_AUTO_TEST_CASE(certain_tokens_are_told_from_uncertain_ones) {
  // Probabilities that underflow to 0: two sure tokens for two experts, then both for one.
  const Tensor apart = Tensor::from({0.0f, -1e4f, -1e4f, 0.0f}, {2, 2}).set_requires_grad(true);
  const Tensor loss = entropy_loss(apart);
  BOOST_TEST(loss.item<double>() == -std::log(2.0), boost::test_tools::tolerance(1e-6));
  backward(loss);
  for (const float g : apart.grad().to_vector<float>()) BOOST_TEST(std::isfinite(g));
  BOOST_TEST(entropy_loss(Tensor::from({0.0f, -1e4f, 0.0f, -1e4f}, {2, 2})).item<float>() == 0.0f);
  const Tensor one_sided = Tensor::from({1.0f, 0.0f, 1.0f, 0.0f}, {2, 2});
  BOOST_TEST(importance_loss(one_sided).item<float>() == 1.0f);
  BOOST_TEST(variance_loss(reshape(one_sided, {1, 2, 2})).item<float>() == 0.5f);  // 1 - 1/E
}

BOOST_AUTO_TEST_CASE(nothing_but_padding_costs_nothing) {
  const std::vector<bool> nothing(tokens, false);
  const Tensor leaf = some_logits().detach().set_requires_grad(true);
  const AuxLosses losses = aux_losses(every_loss, routed(leaf, leaf.detach(), nothing, true));
  for (const AuxLoss kind : every_loss) BOOST_TEST(losses[kind].item<double>() == 0.0);
  Tensor total = losses[AuxLoss::balance];
  for (const AuxLoss kind : every_loss) total = total + losses[kind];
  backward(total);
  for (const float g : leaf.grad().to_vector<float>()) BOOST_TEST(g == 0.0f);
}

BOOST_AUTO_TEST_CASE(what_is_not_asked_for_is_absent_and_layers_are_averaged_by_kind) {
  models::HyenaMoeLMConfig c{.vocab = 20, .width = 16, .layers = 2, .l_max = 16, .experts = 4, .hidden = 16};
  c.losses = {AuxLoss::variance};
  const models::HyenaMoeLM model(c);
  const Tensor ids = randint(0, 20, {2, 16});
  const models::LossOutput out = model.loss(ids, ids);
  BOOST_REQUIRE(out.losses.size() == 2u);
  BOOST_TEST(!out.losses[0][AuxLoss::sequence].defined());
  BOOST_TEST(!layer_mean(out.losses, AuxLoss::sequence).defined());
  BOOST_TEST(!layer_mean({}, AuxLoss::balance).defined());
  const double first = out.losses[0][AuxLoss::variance].item<double>();
  const double second = out.losses[1][AuxLoss::variance].item<double>();
  BOOST_TEST(layer_mean(out.losses, AuxLoss::variance).item<double>() == (first + second) / 2,
             boost::test_tools::tolerance(1e-6));
  BOOST_TEST(layer_mean(out.losses, AuxLoss::balance).item<double>() == out.aux.item<double>(),
             boost::test_tools::tolerance(1e-6));
}

BOOST_AUTO_TEST_CASE(operands_that_disagree_are_named) {
  const Tensor p = full({4, 4}, 0.25), sequences = full({2, 2, 4}, 0.25);
  for (const Shape& shape : {Shape{2, 1, 4}, Shape{4}, Shape{1, 4}, Shape{2, 1}}) {
    const Tensor counts = ones(shape, DType::i64);
    check_throws<ShapeError>([&] { sequence_loss(counts, sequences); },
                             message("sequence_loss: counts (B, E) and probabilities (B, T, E) disagree: counts ",
                                     counts, ", probabilities ", sequences));
  }
  check_throws<ShapeError>([&] { importance_loss(sequences); }, "importance_loss: needs probabilities (N, E), got ");
  check_throws<ShapeError>([&] { variance_loss(p); }, "variance_loss: needs probabilities (B, T, E), got ");
  check_throws<ShapeError>([&] { entropy_loss(sequences); }, "entropy_loss: needs logits (N, E), got ");
  check_throws<ShapeError>([&] { router_z_loss(p, zeros({3}, DType::boolean)); },
                           "router_z_loss: valid must be a bool for each row of f32 [4, 4] cpu:0, got bool [3] cpu:0");
  check_throws<ShapeError>([&] { router_z_loss(p, ones({4})); }, "valid must be a bool for each row");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
