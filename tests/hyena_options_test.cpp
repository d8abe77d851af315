// SPDX-License-Identifier: Apache-2.0
// Every option of the Hyena operator: alone against the values that PyTorch computed once, and in combinations that
// bring every two settings together.
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "autograd/gradcheck.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "nn/hyena.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/cat.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/device.hpp"
#include "tests/support/fixture.hpp"
#include "tests/support/op_spec.hpp"
#include "tests/support/pairwise.hpp"

namespace mahia::nn {
namespace {

using tests::check_near;
using tests::check_throws;
using tests::Fixture;

struct Trial {
  HyenaConfig config;
  int64_t time = 6;
  bool masked = false, packed = false;
};

struct Option {
  const char* name;
  std::vector<std::function<void(Trial&)>> levels;
};

template <class T>
std::function<void(Trial&)> set(T HyenaConfig::*member, T value) {
  return [=](Trial& t) { t.config.*member = value; };
}
template <class T>
std::function<void(Trial&)> set(T HyenaFilterConfig::*member, T value) {
  return [=](Trial& t) { t.config.filter.*member = value; };
}

template <class C, class T>
std::vector<std::function<void(Trial&)>> each(T C::*member, std::initializer_list<T> values) {
  std::vector<std::function<void(Trial&)>> levels;
  for (const T& value : values) levels.push_back(set(member, value));
  return levels;
}

const std::vector<Option>& options() {
  using C = HyenaConfig;
  using F = HyenaFilterConfig;
  using A = HyenaActivation;
  static const std::vector<Option> all = {
      {"order", each<C, int64_t>(&C::order, {2, 3, 4})},
      {"num_heads", each<C, int64_t>(&C::num_heads, {1, 2})},
      {"inner_factor", each<C, int64_t>(&C::inner_factor, {1, 2})},
      {"num_blocks", each<C, int64_t>(&C::num_blocks, {1, 2})},
      {"short_filter", each<C, int64_t>(&C::short_filter, {3, 0, 1, 4})},
      {"outer_mixing", each(&C::outer_mixing, {false, true})},
      {"bidirectional", each(&C::bidirectional, {false, true})},
      {"activation", each(&C::activation, {A::none, A::relu, A::gelu, A::silu, A::tanh, A::sigmoid})},
      {"dropout", each(&C::dropout, {0.0, 0.3})},
      {"algorithm", each(&C::algorithm,
                         {ConvAlgorithm::automatic, ConvAlgorithm::fft, ConvAlgorithm::dyadic, ConvAlgorithm::direct})},
      {"embedding", each<F, int64_t>(&F::embedding, {5, 3, 9})},
      {"hidden", each<F, int64_t>(&F::hidden, {3, 6})},
      {"inner_layers", each<F, int64_t>(&F::inner_layers, {2, 0, 1})},
      {"shared_frequency", each(&F::shared_frequency, {true, false})},
      {"train_positions", each(&F::train_positions, {false, true})},
      {"window", each(&F::window, {true, false})},
      {"train_window", each(&F::train_window, {false, true})},
      {"normalized", each(&F::normalized, {false, true})},
      {"skip", each(&F::skip, {true, false})},
      {"filter dropout", each(&F::dropout, {0.0, 0.3})},
      {"shift", each(&F::shift, {0.0, 0.05})},
      {"length", {[](Trial& t) { t.time = 6; }, [](Trial& t) { t.time = 1; }, [](Trial& t) { t.time = 9; }}},
      {"mask", {[](Trial& t) { t.masked = false; }, [](Trial& t) { t.masked = true; }}},
      {"documents", {[](Trial& t) { t.packed = false; }, [](Trial& t) { t.packed = true; }}},
  };
  return all;
}

const std::vector<std::vector<size_t>>& rows() {
  static const std::vector<std::vector<size_t>> all = [] {
    std::vector<size_t> levels;
    for (const Option& option : options()) levels.push_back(option.levels.size());
    return tests::pairwise_rows(levels);
  }();
  return all;
}

Trial trial_of(const std::vector<size_t>& row) {
  Trial t;
  t.config = {.width = 4, .l_max = 6, .filter = {.extend_to = 9, .sine_frequency = 1}};
  for (size_t i = 0; i < row.size(); ++i) options()[i].levels[row[i]](t);
  return t;
}

std::string describe_row(const std::vector<size_t>& row) {
  std::string text;
  for (size_t i = 0; i < row.size(); ++i) text += message(options()[i].name, " #", row[i], ", ");
  return text;
}

// The operator of a row in f64 as a pure function: dropout draws the same numbers at each call.
class Subject {
 public:
  explicit Subject(const Trial& t, Device device = tests::tested_device())
      : op_(t.config), time_(t.time), device_(device), counts_(random_counts()) {
    op_.to(DType::f64);
    op_.to(device);
    if (t.masked) {
      std::vector<uint8_t> kept(static_cast<size_t>(2 * time_), 1);
      kept[static_cast<size_t>(time_ / 3)] = kept.back() = 0;
      sequence_.mask = copy_to(Tensor::from(kept, {2, time_}), device, DType::boolean);
    }
    if (t.packed) {
      std::vector<std::vector<int64_t>> starts = {{0}, {0}};
      if (time_ > 3) starts[1] = {0, 1, 4};
      documents_.emplace(starts, time_, device);
      sequence_.documents = &*documents_;
    }
  }
  Tensor operator()(const Tensor& u) const {
    set_random_counts(counts_);
    return op_(u, sequence_);
  }
  Tensor input() const { return randn({2, time_, 4}, DType::f64, device_); }
  const HyenaOperator& module() const { return op_; }

 private:
  HyenaOperator op_;
  int64_t time_;
  Device device_;
  RandomCounts counts_;
  std::optional<PackedDocuments> documents_;
  HyenaSequence sequence_;
};

// The derivative of sum(w y) along a random direction of each parameter against a central difference.
void check_parameter_gradients(const Subject& subject, const Tensor& u) {
  for (const Tensor& parameter : subject.module().parameters()) parameter.set_grad({});
  const Tensor y = subject(u), w = randn(y.shape(), DType::f64);
  backward({y}, {w});
  const NoGrad no_grad;
  for (const auto& named : subject.module().named_parameters()) {
    const Tensor parameter = named.second;
    if (!parameter.grad()) continue;  // outside the graph: a window that is off
    const Tensor start = clone(parameter), direction = randn(parameter.shape(), DType::f64);
    const auto at = [&](double step) {
      copy_into(start + direction * step, parameter);
      return sum(subject(u) * w).item<double>();
    };
    const double numeric = (at(1e-6) - at(-1e-6)) / 2e-6, analytic = sum(parameter.grad() * direction).item<double>();
    copy_into(start, parameter);
    BOOST_TEST(std::abs(analytic - numeric) <= 1e-5 + 1e-4 * std::abs(numeric),
               named.first << ": analytic " << analytic << ", numeric " << numeric);
  }
}

struct NeedsCuda {
  boost::test_tools::assertion_result operator()(boost::unit_test::test_unit_id) const { return tests::tests_cuda(); }
};

BOOST_AUTO_TEST_SUITE(hyena_options)

BOOST_AUTO_TEST_CASE(the_rows_bring_every_two_settings_together) {
  size_t pairs = 0, met = 0;
  for (size_t i = 0; i < options().size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      std::set<std::pair<size_t, size_t>> seen;
      for (const auto& row : rows()) seen.emplace(row[i], row[j]);
      pairs += options()[i].levels.size() * options()[j].levels.size();
      met += seen.size();
    }
  }
  BOOST_TEST(met == pairs);
  BOOST_TEST(rows().size() < 40u);
}

BOOST_AUTO_TEST_CASE(no_combination_sees_the_future) {
  for (const auto& row : rows()) {
    const Trial t = trial_of(row);
    if (t.time == 1 || t.config.bidirectional) continue;
    BOOST_TEST_CONTEXT(describe_row(row)) {
      const Subject subject(t);
      const int64_t start = t.time / 2, rest = t.time - start;
      Tensor u = subject.input().set_requires_grad(true);
      const Tensor past = narrow(subject(u), 1, 0, start);
      backward({past}, {randn(past.shape(), DType::f64, past.device())});
      const double largest = amax(abs(u.grad())).item<double>();
      const double gradient = amax(abs(narrow(u.grad(), 1, start, rest))).item<double>();
      const auto past_before = [&](double future) {
        const Tensor other =
            cat({narrow(u.detach(), 1, 0, start), full({2, rest, 4}, future, DType::f64, u.device())}, 1);
        return contiguous(narrow(subject(other), 1, 0, start));
      };
      BOOST_TEST(largest > 0);
      if (t.config.algorithm == ConvAlgorithm::dyadic || t.config.algorithm == ConvAlgorithm::direct) {
        BOOST_TEST(gradient == 0);
        for (const double future : {3.0, 1e30, std::nan("")}) {
          tests::check_same_bits(past_before(future), contiguous(past.detach()));
        }
      } else {
        BOOST_TEST(gradient <= 1e-12 * largest);
        BOOST_TEST(amax(abs(past_before(3) - past)).item<double>() <= 1e-12);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(step_by_step_every_combination_gives_the_outputs_of_the_whole) {
  for (const auto& row : rows()) {
    const Trial t = trial_of(row);
    if (t.config.bidirectional) continue;
    BOOST_TEST_CONTEXT(describe_row(row)) {
      HyenaOperator op(t.config);
      op.to(DType::f64);
      op.to(tests::tested_device());
      op.eval();
      const NoGrad no_grad;
      const Tensor u = randn({2, t.time, 4}, DType::f64, tests::tested_device()), whole = op(u);
      HyenaState state = op.start(2, t.time);
      const int64_t prompt = (t.time + 1) / 2;
      Tensors pieces = {op.advance(contiguous(narrow(u, 1, 0, prompt)), state)};
      for (int64_t i = prompt; i < t.time; ++i) pieces.push_back(op.advance(contiguous(narrow(u, 1, i, 1)), state));
      BOOST_TEST(amax(abs(cat(pieces, 1) - whole)).item<double>() <= 1e-12);
    }
  }
}

BOOST_AUTO_TEST_CASE(gradients_of_every_combination_equal_central_differences) {
  for (const auto& row : rows()) {
    BOOST_TEST_CONTEXT(describe_row(row)) {
      const Subject subject(trial_of(row), cpu_device);
      Tensor u = subject.input().set_requires_grad(true);
      BOOST_CHECK_NO_THROW(gradcheck([&](const Tensors& x) { return subject(x[0]); }, {u}));
      check_parameter_gradients(subject, u);
    }
  }
}

// Activations and projections in bf16, filters in f32.
BOOST_AUTO_TEST_CASE(every_combination_runs_in_bf16) {
  for (const auto& row : rows()) {
    BOOST_TEST_CONTEXT(describe_row(row)) {
      Trial t = trial_of(row);
      t.config.dropout = t.config.filter.dropout = 0;
      const Tensor u = randn({2, t.time, 4});
      HyenaOperator op(t.config);
      const PackedDocuments documents({{0}, {0}}, t.time);
      const HyenaSequence sequence = t.packed ? HyenaSequence{.documents = &documents} : HyenaSequence{};
      const Tensor expected = op(u, sequence).detach();
      op.to(DType::bf16, [](const std::string& name) { return name.find("filter_fn") != std::string::npos; });
      const Tensor y = op(to(u, DType::bf16), sequence);
      BOOST_TEST((y.dtype() == DType::bf16));
      check_near(y, expected, 3e-2, "y");
      backward(sum(y));
      for (const auto& [name, parameter] : op.named_parameters()) {
        if (parameter.grad()) BOOST_TEST(std::isfinite(amax(abs(parameter.grad())).item<double>()), name);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(every_combination_agrees_with_the_cpu, *boost::unit_test::precondition(NeedsCuda())) {
  for (const auto& row : rows()) {
    BOOST_TEST_CONTEXT(describe_row(row)) {
      const Trial t = trial_of(row);
      const Subject here(t, cpu_device), there(t);
      Tensor u = here.input().set_requires_grad(true);
      Tensor v = copy_to(u.detach(), tests::tested_device(), DType::f64).set_requires_grad(true);
      const Tensor y = here(u), z = there(v), dy = randn(y.shape(), DType::f64);
      check_near(z, y, 1e-12, "y");
      backward({y}, {dy});
      backward({z}, {copy_to(dy, v.device(), DType::f64)});
      check_near(v.grad(), u.grad(), 1e-11, "gradient of u");
      const auto expected = here.module().named_parameters(), found = there.module().named_parameters();
      for (size_t i = 0; i < expected.size(); ++i) {
        BOOST_TEST(found[i].second.grad().defined() == expected[i].second.grad().defined());
        if (!expected[i].second.grad()) continue;
        check_near(found[i].second.grad(), expected[i].second.grad(), 1e-10, expected[i].first);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(every_combination_keeps_the_shape_of_its_input) {
  for (const auto& row : rows()) {
    BOOST_TEST_CONTEXT(describe_row(row)) {
      const Trial t = trial_of(row);
      const HyenaOperator op(t.config);
      for (const Shape& shape : {Shape{2, t.time, 4}, Shape{1, 1, 4}, Shape{0, t.time, 4}}) {
        Tensor u = randn(shape).set_requires_grad(true);
        const Tensor y = op(u);
        BOOST_TEST((y.shape() == shape));
        BOOST_TEST(y.is_contiguous());
        backward(sum(y));
        BOOST_TEST((u.grad().shape() == shape));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(each_option_agrees_with_pytorch) {
  using A = HyenaActivation;
  const std::map<std::string, HyenaConfig> cases = {
      {"heads", {.l_max = 9, .order = 3, .num_heads = 2}},
      {"inner_factor", {.l_max = 8, .inner_factor = 2}},
      {"blocks", {.l_max = 12, .num_blocks = 3}},
      {"longer_than_l_max_in_blocks", {.l_max = 6, .num_blocks = 2}},
      {"outer_mixing", {.l_max = 9, .order = 3, .num_heads = 2, .outer_mixing = true}},
      {"bidirectional", {.l_max = 10, .order = 3, .bidirectional = true}},
      {"gelu", {.l_max = 8, .activation = A::gelu}},
      {"no_short_filter", {.l_max = 8, .short_filter = 0}},
      {"four_taps", {.l_max = 8, .short_filter = 4}},
      {"one_tap", {.l_max = 8, .short_filter = 1}},
      {"separate_frequencies", {.l_max = 8, .filter = {.shared_frequency = false}}},
      {"no_window_no_skip", {.l_max = 8, .order = 3, .filter = {.window = false, .skip = false}}},
      {"normalized", {.l_max = 9, .order = 3, .filter = {.normalized = true, .shift = 0.05}}},
      {"longer_than_l_max", {.l_max = 7, .order = 3, .filter = {.extend_to = 12, .embedding = 7}}},
      {"normalized_longer_than_l_max", {.l_max = 7, .filter = {.extend_to = 13, .normalized = true}}},
      {"all",
       {.l_max = 12,
        .order = 3,
        .num_heads = 2,
        .inner_factor = 2,
        .num_blocks = 2,
        .short_filter = 5,
        .outer_mixing = true,
        .activation = A::silu,
        .filter = {.embedding = 9, .shared_frequency = false, .normalized = true, .shift = 0.1}}},
      {"all_bidirectional",
       {.l_max = 12,
        .order = 3,
        .num_heads = 2,
        .inner_factor = 2,
        .num_blocks = 2,
        .short_filter = 4,
        .outer_mixing = true,
        .bidirectional = true,
        .activation = A::tanh}},
  };
  for (const auto& [name, options] : cases) {
    BOOST_TEST_CONTEXT(name) {
      const Fixture f("hyena_options_" + name);
      HyenaConfig c = options;
      c.width = 4;
      c.filter.hidden = 8;
      c.filter.train_positions = true;
      if (c.filter.embedding == 33) c.filter.embedding = 5;
      HyenaOperator op(c);
      if (name.starts_with("all") || name == "separate_frequencies") tests::check_names(op, "hyena_options_" + name);
      op.load_state_dict(f.state());
      Tensor u = f["input.u"].detach().set_requires_grad(true);
      const Tensor y = op(u);
      check_near(y, f["output.y"], 1e-5, "y");
      backward({y}, {f["grad_output"]});
      check_near(u.grad(), f["grad.input.u"], 3e-5, "gradient of u");
      tests::check_gradients(op, f, "grad.state.", 1e-4);
    }
  }
}

BOOST_AUTO_TEST_CASE(options_that_do_not_fit_are_named) {
  const auto refused = [](const HyenaConfig& c, const std::string& text) {
    check_throws<ValueError>([&] { HyenaOperator op(c); }, text);
  };
  refused({.width = 6, .num_heads = 4}, "width 6 and inner_factor 1 must be at least 1 and num_heads 4 a divisor");
  refused({.width = 6, .inner_factor = 0}, "width 6 and inner_factor 0 must be at least 1");
  refused({.l_max = 10, .num_blocks = 3}, "num_blocks 3 must be a divisor of l_max 10");
  refused({.short_filter = -1}, "short_filter is -1, must not be negative");
  refused({.dropout = 1.5}, "Dropout: p is 1.5");
  refused({.l_max = 10, .filter = {.extend_to = 9}}, "extend_to is 9, must be 0 or at least l_max 10");
  refused({.filter = {.dropout = -1}}, "Dropout: p is -1");
  check_throws<ValueError>([] { HyenaOperator({.bidirectional = true}).start(1, 4); },
                           "a bidirectional operator has no state");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
