// SPDX-License-Identifier: Apache-2.0
#include "train/feedback.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <random>

#include "core/factory.hpp"
#include "tests/support/op_spec.hpp"
#include "train/step_state.hpp"

namespace mahia::train {
namespace {

using nn::AuxLoss;
using tests::check_same_bits;
using tests::check_throws;

Tensor number(double x) { return Tensor::from({x}, {}); }
Tensor vector_of(const std::vector<double>& x) { return Tensor::from(x, {std::ssize(x)}); }

// One loop in plain numbers, as the documents say it.
struct Reference {
  double value, ema = 0, integral = 0;

  void step(const Schedule& s, int64_t number, double m) {
    const Feedback& f = s.feedback;
    ema = number == 1 ? m : f.smoothing * ema + (1 - f.smoothing) * m;
    double e = ema - f.target;
    if (f.dead_band > 0 && std::abs(e) <= f.dead_band) e = 0;
    if (number <= s.hold) return;
    if (s.kind == ScheduleKind::sign) {
      if (e > 0) value *= f.factor;
      if (e < 0) value /= f.factor;
      value = inside(value, f.low, f.high);
    } else if (s.kind == ScheduleKind::dual_ascent) {
      value = inside(value + at_most(f.gain * e, f.rate_limit), f.low, f.high);
    } else {
      const double summed = integral + f.integral_gain * e, wanted = std::log(s.peak) + f.gain * e + summed;
      const double before = std::log(value);
      const double now = inside(before + at_most(wanted - before, f.rate_limit), std::log(f.low), std::log(f.high));
      const bool held_back = e > 0 ? wanted - now > 1e-12 : wanted - now < -1e-12;
      if (e == 0 || !held_back) integral = summed;
      value = std::exp(now);
    }
  }
  static double inside(double x, double low, double high) { return x < low ? low : x > high ? high : x; }
  static double at_most(double x, double most) { return most > 0 ? inside(x, -most, most) : x; }
};

const Schedule loops[] = {
    {.kind = ScheduleKind::sign, .peak = 0.01, .feedback = {.target = 0.5, .dead_band = 0.05, .factor = 1.1}},
    {.kind = ScheduleKind::sign, .peak = 0.5, .hold = 7, .feedback = {.target = 0.3, .low = 0.4, .high = 0.6}},
    {.kind = ScheduleKind::dual_ascent, .peak = 0, .feedback = {.target = 0.5, .gain = 0.02, .low = 0}},
    {.kind = ScheduleKind::dual_ascent, .peak = 0.1, .feedback = {.target = 0.5, .gain = 0.2, .rate_limit = 0.01}},
    {.kind = ScheduleKind::pi, .peak = 0.02, .feedback = {.target = 0.5, .smoothing = 0, .gain = 0.5}},
    {.kind = ScheduleKind::pi,
     .peak = 0.02,
     .hold = 3,
     .feedback = {.target = 0.4, .dead_band = 0.02, .gain = 1, .integral_gain = 0.2, .rate_limit = 0.1}},
    {.kind = ScheduleKind::pi,
     .peak = 0.02,
     .feedback = {.target = 0.4, .gain = 1, .integral_gain = 0.2, .low = 0.01, .high = 0.03}},
};

// An imbalance that jumps between three levels.
double measured_at(int64_t step, std::mt19937& random) {
  return static_cast<double>(step / 20 % 3) * 0.4 + std::uniform_real_distribution<double>(0, 0.3)(random);
}

BOOST_AUTO_TEST_SUITE(feedback)

BOOST_AUTO_TEST_CASE(every_rule_follows_its_formula) {
  for (const Schedule& s : loops) {
    BOOST_TEST_CONTEXT(to_text(s)) {
      s.validate("test");
      std::mt19937 random(1);
      FeedbackState state = feedback_start(s, cpu_device);
      Reference reference{s.peak};
      double least = s.peak, most = s.peak;
      for (int64_t step = 1; step <= 200; ++step) {
        const double m = measured_at(step, random);
        state = feedback_next(s, number(static_cast<double>(step)), state, vector_of({m - 0.1, m + 0.1}));
        reference.step(s, step, m);
        BOOST_TEST(std::abs(state.value.item<double>() - reference.value) <= 1e-11 * reference.value, "step " << step);
        BOOST_TEST(std::abs(state.ema.item<double>() - reference.ema) <= 1e-12, "step " << step);
        BOOST_TEST(std::abs(state.integral.item<double>() - reference.integral) <= 1e-11, "step " << step);
        least = std::min(least, reference.value);
        most = std::max(most, reference.value);
      }
      BOOST_TEST(most > 1.2 * least);  // something happened
      BOOST_TEST((least >= s.feedback.low && most <= s.feedback.high));
    }
  }
}

BOOST_AUTO_TEST_CASE(the_integral_does_not_wind_up_where_a_limit_holds) {
  const Schedule s{.kind = ScheduleKind::pi,
                   .peak = 1,
                   .feedback = {.target = 0.5, .smoothing = 0, .gain = 0, .integral_gain = 0.1, .high = 2}};
  FeedbackState state = feedback_start(s, cpu_device);
  double step = 0;
  const auto run = [&](int steps, double m) {
    for (int i = 0; i < steps; ++i) state = feedback_next(s, number(++step), state, vector_of({m}));
    return state.value.item<double>();
  };
  BOOST_TEST(run(1000, 1.5) == 2);
  BOOST_TEST(run(1, 0.4) < 2);  // at once, after a thousand steps at the limit
}

BOOST_AUTO_TEST_CASE(each_layer_can_have_a_loop_of_its_own) {
  Schedule s = loops[5];
  s.layers = {1, 1, 1};
  s.feedback.per_layer = true;
  FeedbackState state = feedback_start(s, cpu_device);
  std::vector<Reference> references(3, Reference{s.peak});
  std::mt19937 random(2);
  for (int64_t step = 1; step <= 90; ++step) {
    const double m = measured_at(step, random);
    state = feedback_next(s, number(static_cast<double>(step)), state, vector_of({m, 0.4 - m, 2 * m}));
    references[0].step(s, step, m);
    references[1].step(s, step, 0.4 - m);
    references[2].step(s, step, 2 * m);
  }
  const std::vector<double> values = state.value.to_vector<double>();
  for (size_t l = 0; l < 3; ++l) BOOST_TEST(values[l] == references[l].value, boost::test_tools::tolerance(1e-11));
  check_throws<ShapeError>(
      [&] {
        feedback_next(s, number(1), state, vector_of({1, 2}));
      },
      "feedback: a loop for each of 3 layers got an imbalance for each of 2");
}

BOOST_AUTO_TEST_CASE(nonsense_is_refused) {
  const auto refused = [](ScheduleKind kind, const Feedback& f, const std::string& text, double peak = 0.01) {
    check_throws<ValueError>([&] { Schedule{.kind = kind, .peak = peak, .feedback = f}.validate("aux"); }, text);
  };
  refused(ScheduleKind::pi, {.target = -1}, "aux: target -1, dead_band 0 and rate_limit 0 must be numbers >= 0");
  refused(ScheduleKind::pi, {.smoothing = 1}, "aux: smoothing is 1, must be in [0, 1)");
  refused(ScheduleKind::pi, {}, "aux: begins at peak 1e-07, which must lie in [low, high] = [1e-06, 100]", 1e-7);
  refused(ScheduleKind::pi, {.low = 0}, "aux: pi needs low above 0, got 0");
  refused(ScheduleKind::sign, {.factor = 1}, "aux: factor is 1, must exceed 1");
  refused(ScheduleKind::dual_ascent, {.gain = -1}, "aux: gain -1 and integral_gain 0.001 must be numbers >= 0");
  refused(ScheduleKind::pi, {.per_layer = true}, "aux: per_layer needs `layers`, a factor for each layer");
  check_throws<ValueError>([] { Schedule{.kind = ScheduleKind::pi, .warmup = 3}.validate("aux"); },
                           "aux: a closed loop has no warm-up");
}

BOOST_AUTO_TEST_CASE(the_step_state_gives_layers_and_loops_their_coefficients) {
  Schedules schedules;
  schedules.aux.z_loss = {.kind = ScheduleKind::linear, .peak = 1, .final = 0, .steps = 4, .layers = {1, 0.5, 0}};
  schedules.aux.balance = {
      .kind = ScheduleKind::dual_ascent, .peak = 0.5, .feedback = {.target = 1, .smoothing = 0, .gain = 0.25}};
  schedules.aux.entropy = {.kind = ScheduleKind::sign,
                           .peak = 1,
                           .feedback = {.target = 1, .smoothing = 0, .factor = 2, .per_layer = true},
                           .layers = {1, 1, 3}};
  StepState state(schedules);
  const auto values = [&](AuxLoss kind) { return state.coefficient(kind).to_vector<double>(); };
  state.advance(2);
  BOOST_TEST((state.wants(AuxLoss::z_loss) && state.wants(AuxLoss::balance) && !state.wants(AuxLoss::variance)));
  BOOST_TEST(values(AuxLoss::z_loss) == (std::vector<double>{0.5, 0.25, 0}), boost::test_tools::per_element());
  BOOST_TEST(state.aux.item<double>() == 0.5);
  BOOST_TEST(values(AuxLoss::entropy) == (std::vector<double>{1, 1, 3}), boost::test_tools::per_element());
  const std::vector<int64_t> n = {2, 2, 4, 0, 4, 0};  // MaxVio 0, 1, 1 with two experts
  state.observe(Tensor::from(n, {3, 2}));
  BOOST_TEST(state.aux.item<double>() == 0.5 - 0.25 / 3, boost::test_tools::tolerance(1e-7));
  BOOST_TEST(values(AuxLoss::entropy) == (std::vector<double>{0.5, 1, 3}), boost::test_tools::per_element());

  StepState other(schedules);
  other.load_state(state.state());
  for (const AuxLoss kind : {AuxLoss::balance, AuxLoss::entropy})
    check_same_bits(other.coefficient(kind), state.coefficient(kind));
  StepState open;
  check_throws<ValueError>([&] { open.load_state(state.state()); },
                           "schedules: nothing was loaded:\n  6 unexpected names");
  check_throws<ValueError>([&] { other.load_state({}); }, "missing: aux.switch.value: f64 [] cpu:0");
  check_throws<ValueError>([] { StepState({.lr = {.kind = ScheduleKind::pi}}); },
                           "lr: pi is for coefficients of auxiliary losses");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
