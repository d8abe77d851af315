// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <map>
#include <sstream>

#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/random.hpp"
#include "tests/support/op_spec.hpp"
#include "train/safetensors.hpp"

namespace mahia::train {
namespace {

namespace tt = boost::test_tools;
using tests::check_same_bits;
using tests::check_throws;

// A model that is a list of named parameters.
struct Bag : nn::Module {
  explicit Bag(const nn::NamedTensors& values) {
    for (const auto& [name, value] : values) parameter(name, clone(value));
  }
};

using Settings = std::map<std::string, std::string>;

// One parameter group as a fixture's `arguments` describe it: "bias,scale: lr=0.01 betas=(0.9, 0.98)".
struct FixtureGroup {
  std::vector<std::string> names;
  Settings settings;
  double number(const std::string& key, double otherwise) const {
    return settings.contains(key) ? std::stod(settings.at(key)) : otherwise;
  }
  bool flag(const std::string& key) const { return settings.contains(key) && settings.at(key) == "True"; }
};

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t at = text.find(separator); at != text.npos; at = text.find(separator, begin)) {
    parts.push_back(text.substr(begin, at - begin));
    begin = at + separator.size();
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::vector<FixtureGroup> read_groups(const std::string& arguments) {
  std::vector<FixtureGroup> groups;
  for (const std::string& group : split(arguments, "; ")) {
    const std::vector<std::string> halves = split(group, ": ");
    Settings settings;
    for (const std::string& word : split(halves[1], " ")) {
      const std::vector<std::string> pair = split(word, "=");
      if (pair.size() == 2 && pair[0] == "betas") settings["beta1"] = pair[1].substr(1);
      if (pair.size() == 2) settings[pair[0]] = pair[1];
      if (pair.size() == 1 && word.ends_with(')')) settings["beta2"] = word;
    }
    groups.push_back({split(halves[0], ","), settings});
  }
  return groups;
}

std::unique_ptr<Optimizer> make_optimizer(const std::string& fixture, const Bag& bag, const FixtureGroup& g) {
  if (fixture.starts_with("adamw")) {
    return std::make_unique<AdamW>(bag,
                                   AdamWOptions{.beta1 = g.number("beta1", 0.9),
                                                .beta2 = g.number("beta2", 0.999),
                                                .weight_decay = g.number("weight_decay", 0.01)},
                                   std::vector<ParameterRule>{});
  }
  return std::make_unique<Sgd>(bag, SgdOptions{.momentum = g.number("momentum", 0),
                                               .dampening = g.number("dampening", 0),
                                               .weight_decay = g.number("weight_decay", 0),
                                               .nesterov = g.flag("nesterov")});
}

// |difference| at most 4 ulp of the largest |value| of the tensor; an f64 run must agree far better.
void check_ulp(const Tensor& actual, const Tensor& expected) {
  const auto x = actual.to_vector<double>(), y = expected.to_vector<double>();
  double largest = 0, difference = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    largest = std::max(largest, std::abs(y[i]));
    difference = std::max(difference, std::abs(x[i] - y[i]));
  }
  const auto f = static_cast<float>(largest);
  const double ulp =
      actual.dtype() == DType::f64 ? 1e-14 * largest : std::nextafter(f, std::numeric_limits<float>::infinity()) - f;
  BOOST_TEST(difference <= 4 * ulp, difference / ulp << " ulp");
}

void follow_fixture(const std::string& fixture, DType dtype) {
  const SafeTensors file = load_safetensors(MAHIA_SOURCE_DIR "/tests/fixtures/" + fixture + ".safetensors");
  std::map<std::string, Tensor> values(file.tensors.begin(), file.tensors.end());
  const std::string suffix = dtype == DType::f64 ? "_f64." : ".";
  for (const FixtureGroup& group : read_groups(file.metadata.at("arguments"))) {
    nn::NamedTensors start;
    for (const std::string& name : group.names) {
      start.emplace_back(name, copy_to(values.at("start." + name), cpu_device, dtype));
    }
    const Bag bag(start);
    const auto optimizer = make_optimizer(fixture, bag, group);
    for (int step = 1; step <= 10; ++step) {
      for (const auto& [name, parameter] : bag.named_parameters()) {
        parameter.set_grad(copy_to(values.at(message("gradient.", step, ".", name)), cpu_device, dtype));
      }
      optimizer->step(group.number("lr", 1e-3));
      if (step != 1 && step != 10) continue;
      for (const auto& [name, parameter] : bag.named_parameters()) {
        BOOST_TEST_CONTEXT(fixture << " " << name << " step " << step) {
          check_ulp(parameter, values.at(message("step", step, suffix, name)));
        }
      }
    }
  }
}

BOOST_AUTO_TEST_SUITE(optimizer)

BOOST_AUTO_TEST_CASE(ten_steps_are_those_of_pytorch) {
  for (const char* fixture : {"adamw", "adamw_defaults", "sgd", "sgd_momentum", "sgd_nesterov", "sgd_dampening"}) {
    for (const DType dtype : {DType::f32, DType::f64}) follow_fixture(fixture, dtype);
  }
}

BOOST_AUTO_TEST_CASE(clipping_is_that_of_pytorch) {
  const SafeTensors file = load_safetensors(MAHIA_SOURCE_DIR "/tests/fixtures/clip_grad_norm.safetensors");
  std::map<std::string, Tensor> values(file.tensors.begin(), file.tensors.end());
  nn::NamedTensors zero;
  for (const char* name : {"weight", "bias", "scale"}) {
    zero.emplace_back(name, zeros_like(values.at(std::string("gradient.") + name)));
  }
  const Bag bag(zero);
  Sgd sgd(bag);
  for (const auto& [name, parameter] : bag.named_parameters()) parameter.set_grad(values.at("gradient." + name));
  const double norm = clip_grad_norm(sgd, 1.5).item<double>();
  BOOST_TEST(norm == values.at("total_norm").item<double>(), tt::tolerance(1e-6));
  sgd.step(1.0);
  for (const auto& [name, parameter] : bag.named_parameters()) {
    const auto moved = parameter.to_vector<double>(), clipped = values.at("clipped." + name).to_vector<double>();
    for (size_t i = 0; i < moved.size(); ++i) BOOST_TEST(-moved[i] == clipped[i], tt::tolerance(1e-6));
  }
}

BOOST_AUTO_TEST_CASE(a_clip_holds_for_one_step) {
  const Bag bag({{"x", zeros({1})}});
  Sgd sgd(bag);
  const Tensor x = bag.parameters()[0];
  x.set_grad(full({1}, 10));
  sgd.clip_grad_norm(1);
  sgd.step(1.0);
  sgd.step(1.0);
  BOOST_TEST(x.item<float>() == -11.f, tt::tolerance(1e-5f));
}

BOOST_AUTO_TEST_CASE(patterns_match_whole_names) {
  for (const auto& [pattern, name] : {std::pair("*", "a.b"), std::pair("a.b", "a.b"), std::pair("*bias", "fc.bias"),
                                      std::pair("*filter*freq", "m.filter_fn.1.freq"), std::pair("a*b*c", "abxbc")}) {
    BOOST_TEST(matches(pattern, name), pattern << " " << name);
  }
  for (const auto& [pattern, name] : {std::pair("a", "ab"), std::pair("*bias", "bias.x"), std::pair("", "a"),
                                      std::pair("a*b", "ba"), std::pair("a.b", "axb")}) {
    BOOST_TEST(!matches(pattern, name), pattern << " " << name);
  }
}

BOOST_AUTO_TEST_CASE(the_first_rule_that_matches_sets_rate_and_decay) {
  const Bag bag({{"filter_w", ones({1})}, {"filter_bias", ones({1})}, {"weight", ones({1})}});
  Sgd sgd(bag, {.weight_decay = 0.5}, {{"filter*", 0.1, {}}, {"*bias", {}, 0.0}});
  for (const Tensor& x : bag.parameters()) x.set_grad(ones({1}));
  sgd.step(1.0);
  // w - lr * scale * (g + decay * w)
  const std::vector<double> expected = {1 - 0.1 * 1.5, 1 - 0.1 * 1.5, 1 - 1.5};
  for (size_t i = 0; i < 3; ++i) BOOST_TEST(bag.parameters()[i].item<double>() == expected[i], tt::tolerance(1e-6));
}

BOOST_AUTO_TEST_CASE(the_default_rules_spare_norms_biases_and_filters_the_decay) {
  const std::vector<std::pair<std::string, bool>> names = {
      {"layers0_norm1weight", false}, {"bias", false}, {"in_proj_weight", true}, {"head", true}};
  for (const auto& [name, decays] : names) {
    const Bag bag({{name, ones({1})}});
    AdamW adamw(bag, {.weight_decay = 0.5});
    bag.parameters()[0].set_grad(zeros({1}));
    adamw.step(1.0);
    BOOST_TEST(bag.parameters()[0].item<float>() == (decays ? 0.5f : 1.f), name);
  }
  const auto first_rule = [](const std::string& name) {
    for (const ParameterRule& rule : default_rules(0.25)) {
      if (matches(rule.pattern, name)) return rule;
    }
    return ParameterRule{};
  };
  const ParameterRule filter = first_rule("layers.0.mixer.filter_fn.implicit_filter.0.weight");
  BOOST_TEST(filter.lr_scale.value() == 0.25);
  BOOST_TEST(filter.weight_decay.value() == 0);
  BOOST_TEST(!first_rule("layers.0.mixer.in_proj.weight").weight_decay.has_value());
}

BOOST_AUTO_TEST_CASE(parameters_without_a_gradient_stay_and_zero_grad_drops_all) {
  const Bag bag({{"x", ones({2})}, {"y", ones({2})}});
  AdamW adamw(bag);
  bag.parameters()[0].set_grad(ones({2}));
  adamw.step(0.1);
  BOOST_TEST(bag.parameters()[0].to_vector<float>()[0] != 1.f);
  BOOST_TEST(bag.parameters()[1].to_vector<float>()[0] == 1.f);
  adamw.zero_grad();
  BOOST_TEST(!bag.parameters()[0].grad().defined());
}

BOOST_AUTO_TEST_CASE(a_step_advances_the_random_step) {
  const Bag bag({{"x", ones({1})}});
  Sgd sgd(bag);
  const uint64_t before = random_step();
  sgd.step(0.1);
  BOOST_TEST(random_step() == before + 1);
  BOOST_TEST(sgd.steps_done() == 1);
}

BOOST_AUTO_TEST_CASE(bf16_parameters_are_the_rounded_masters) {
  const Bag bag({{"x", ones({1}, DType::bf16)}});
  Sgd sgd(bag);
  const Tensor x = bag.parameters()[0];
  for (int i = 0; i < 4; ++i) {  // each step is below half a bf16 ulp of 1
    x.set_grad(full({1}, 0.001));
    sgd.step(1.0);
  }
  const Tensor master = sgd.state_dict()[0].second;
  BOOST_TEST(sgd.state_dict()[0].first == "master.x");
  BOOST_TEST(master.item<float>() == 0.996f, tt::tolerance(1e-6f));
  check_same_bits(x, copy_to(master, cpu_device, DType::bf16));
}

BOOST_AUTO_TEST_CASE(saved_and_loaded_in_the_middle_it_goes_on_bit_for_bit) {
  const auto steps = [](const Bag& bag, Optimizer& optimizer, int first, int last) {
    for (int i = first; i < last; ++i) {
      bag.parameters()[0].set_grad(randn({50}, RandomCall{.key = static_cast<uint64_t>(i)}));
      optimizer.step(0.01);
    }
  };
  const Bag whole({{"x", ones({50})}});
  AdamW optimizer(whole);
  steps(whole, optimizer, 0, 3);
  Bag half({{"x", whole.parameters()[0]}});
  AdamW resumed(half);
  resumed.load_state_dict(optimizer.state_dict());
  resumed.set_steps_done(optimizer.steps_done());
  steps(whole, optimizer, 3, 6);
  steps(half, resumed, 3, 6);
  check_same_bits(whole.parameters()[0], half.parameters()[0]);
}

BOOST_AUTO_TEST_CASE(a_state_that_does_not_fit_is_reported_whole) {
  const Bag bag({{"x", ones({2})}});
  AdamW adamw(bag);
  const auto load = [&](const nn::NamedTensors& state) { adamw.load_state_dict(state); };
  check_throws<ValueError>([&] { load({{"first.x", zeros({3})}}); }, "missing: second.x");
  check_throws<ValueError>(
      [&] {
        load({{"first.x", zeros({3})}});
      },
      "first.x: the optimizer has f32 [2] cpu:0, the file");
  check_throws<ValueError>([&] { AdamW(bag, {.beta1 = 1}); }, "AdamW: betas 1, 0.999 must be in [0, 1)");
}

BOOST_AUTO_TEST_CASE(the_step_state_follows_the_schedules) {
  const Schedules schedules{.lr = {.kind = ScheduleKind::linear, .peak = 1, .steps = 10},
                            .aux = {.balance = {.peak = 0.25}}};
  StepState state(schedules);
  for (const int64_t step : {0, 3, 10}) {
    state.advance(step);
    BOOST_TEST(state.lr.item<double>() == schedules.lr.at(step));
    BOOST_TEST(state.aux.item<float>() == 0.25f);
    BOOST_TEST(state.step.item<double>() == static_cast<double>(step + 1));
    BOOST_TEST(state.host_lr == schedules.lr.at(step));
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
