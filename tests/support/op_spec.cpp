// SPDX-License-Identifier: Apache-2.0
#include "tests/support/op_spec.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstring>
#include <optional>

#include "autograd/backward.hpp"
#include "autograd/grad_mode.hpp"
#include "autograd/gradcheck.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/parallel.hpp"
#include "tests/support/device.hpp"

namespace mahia::tests {
namespace {

struct Spec {
  std::string name;
  std::function<std::vector<OpCase>()> cases;
  OpSpecOptions options;
};

std::vector<std::shared_ptr<Spec>>& all_specs() {
  static std::vector<std::shared_ptr<Spec>> specs;
  return specs;
}

Tolerance tolerance_for(const OpSpecOptions& options, DType dtype) {
  if (dtype == DType::f32 && options.f32_rtol + options.f32_atol > 0) return {options.f32_rtol, options.f32_atol};
  if (dtype == DType::bf16 && options.bf16_rtol + options.bf16_atol > 0) return {options.bf16_rtol, options.bf16_atol};
  return tolerance_of(dtype);
}

Tensors make_inputs(const OpCase& c, DType dtype, uint64_t draw, bool strided) {
  Tensors inputs;
  for (size_t i = 0; i < c.inputs.size(); ++i) inputs.push_back(make_input(c.inputs[i], dtype, draw * 64 + i, strided));
  return inputs;
}

void check_values(const Spec& spec, DType dtype) {
  uint64_t draw = 0;
  for (const OpCase& c : spec.cases()) {
    for (const bool strided : {false, true}) {
      BOOST_TEST_CONTEXT(spec.name << ": " << c.name << (strided ? ", strided" : "")) {
        const Tensors inputs = make_inputs(c, dtype, draw++, strided);
        Arrays arrays;
        for (const Tensor& x : inputs) arrays.push_back(to_array(x));
        const Tensors outputs = c.call(inputs);
        const Arrays expected = c.reference(arrays);
        BOOST_REQUIRE_EQUAL(outputs.size(), expected.size());
        for (size_t k = 0; k < outputs.size(); ++k) {
          check_close(outputs[k], expected[k], tolerance_for(spec.options, dtype));
        }
        for (size_t i = 0; i < inputs.size(); ++i) {  // no op changes an operand
          BOOST_TEST(to_array(inputs[i]).values == arrays[i].values, boost::test_tools::per_element());
        }
      }
    }
  }
}

void check_gradients(const Spec& spec) {
  for (const OpCase& c : spec.cases()) {
    for (uint64_t draw = 0; draw < 2; ++draw) {
      for (const bool strided : {false, true}) {
        Tensors inputs = make_inputs(c, DType::f64, 1000 + draw, strided);
        bool any = false;
        for (size_t i = 0; i < inputs.size(); ++i) {
          const bool wanted = c.inputs[i].differentiable && is_floating_point(inputs[i].dtype());
          if (wanted) inputs[i].set_requires_grad(true);
          any = any || wanted;
        }
        if (!any) continue;
        BOOST_TEST_CONTEXT(spec.name << ": " << c.name << (strided ? ", strided" : "")) {
          BOOST_CHECK_NO_THROW(
              try { gradcheck(c.call, inputs); } catch (const Error& e) { BOOST_ERROR(e.what()); });
        }
      }
    }
  }
}

void check_threads(const Spec& spec) {
  const int before = num_threads();
  for (const OpCase& c : spec.cases()) {
    const Tensors inputs =
        make_inputs(c, spec.options.dtypes.back() == DType::bf16 ? DType::f32 : spec.options.dtypes[0], 7, false);
    Tensors first;
    for (const int threads : {1, 2, 3, 7}) {
      set_num_threads(threads);
      const Tensors outputs = c.call(inputs);
      if (first.empty()) first = outputs;
      BOOST_TEST_CONTEXT(spec.name << ": " << c.name << ", " << threads << " threads") {
        for (size_t k = 0; k < outputs.size(); ++k) check_same_bits(outputs[k], first[k]);
      }
    }
  }
  set_num_threads(before);
}

// The squared distance of two tensors over the square of the second, when `dtype` was computed in: 1e-7 in f32, 5e-4 in
// bf16 (also for gradients, which leaves keep in f32); integers agree exactly, and so do the places of NaN.
void check_agreement(const std::string& what, const Tensor& there, const Tensor& here, DType dtype) {
  BOOST_TEST_REQUIRE(there.defined() == here.defined(), what << " is missing on one side");
  if (!here.defined()) return;
  BOOST_TEST_REQUIRE((there.shape() == here.shape() && there.dtype() == here.dtype()),
                     what << ": " << message(there) << " and " << message(here));
  if (!is_floating_point(here.dtype())) return check_same_bits(there, here);
  const std::vector<double> a = there.to_vector<double>(), b = here.to_vector<double>();
  double distance = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) {
      size += std::isfinite(b[i]) ? b[i] * b[i] : 0;
      continue;
    }
    distance += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  const double limit = dtype == DType::f64 ? 1e-20 : dtype == DType::f32 ? 1e-7 : 5e-4;
  BOOST_TEST(distance <= limit * (size + 1e-6 * static_cast<double>(a.size())),
             what << " of " << message(there) << ": distance^2 " << distance << ", size^2 " << size);
}

// The values and gradients of one case on the CPU and on the tested device.
void compare_devices(const Spec& spec, const OpCase& c, DType dtype, uint64_t draw, bool strided) {
  const Tensors here = make_inputs(c, dtype, draw, strided);
  Tensors there;
  bool any = false;
  for (size_t i = 0; i < here.size(); ++i) {
    there.push_back(on_tested_device(here[i]));
    const bool wanted = spec.options.gradient && c.inputs[i].differentiable && is_floating_point(here[i].dtype());
    any = any || wanted;
    if (!wanted) continue;
    Tensor(here[i]).set_requires_grad(true);
    Tensor(there[i]).set_requires_grad(true);
  }
  const Tensors y_here = c.call(here), y_there = c.call(there);
  BOOST_REQUIRE_EQUAL(y_here.size(), y_there.size());
  Tensors roots_here, roots_there, grads_here, grads_there;
  for (size_t k = 0; k < y_here.size(); ++k) {
    check_agreement(message("output ", k), y_there[k], y_here[k], dtype);
    if (!any || !y_here[k].requires_grad()) continue;
    roots_here.push_back(y_here[k]);
    roots_there.push_back(y_there[k]);
    grads_here.push_back(make_input({y_here[k].shape()}, y_here[k].dtype(), 5000 + k, false));
    grads_there.push_back(on_tested_device(grads_here.back()));
  }
  if (roots_here.empty()) return;
  backward(roots_here, grads_here);
  backward(roots_there, grads_there);
  for (size_t i = 0; i < here.size(); ++i) {
    if (here[i].requires_grad()) check_agreement(message("gradient ", i), there[i].grad(), here[i].grad(), dtype);
  }
}

bool is_small(const OpCase& c) {
  return std::all_of(c.inputs.begin(), c.inputs.end(),
                     [](const Input& input) { return numel(input.shape) <= most_elements(); });
}

void check_device(const Spec& spec, DType dtype) {
  std::optional<BatchInvariant> scope;
  if (wants_batch_invariance()) scope.emplace();
  uint64_t draw = 2000;
  std::vector<OpCase> cases = spec.cases();
  if (spec.options.device_cases) {
    for (OpCase& c : spec.options.device_cases()) cases.push_back(std::move(c));
  }
  for (const OpCase& c : cases) {
    if (!is_small(c)) continue;
    for (const bool strided : {false, true}) {
      BOOST_TEST_CONTEXT(spec.name << ": " << c.name << (strided ? ", strided" : "") << ", " << name_of(dtype)) {
        BOOST_CHECK_NO_THROW(
            try { compare_devices(spec, c, dtype, draw++, strided); } catch (const Error& e) {
              BOOST_ERROR(e.what());
            });
      }
    }
  }
}

void check_cases(const Spec& spec) {
  bool zero = false, one = false;
  const std::vector<OpCase> cases = spec.cases();
  const size_t on_devices = cases.size() + (spec.options.device_cases ? spec.options.device_cases().size() : 0);
  BOOST_TEST(on_devices >= 15u, spec.name << ": fewer than 15 cases for devices, each contiguous and strided");
  for (const OpCase& c : cases) {
    for (const Input& input : c.inputs) {
      zero = zero || numel(input.shape) == 0;
      one = one || numel(input.shape) == 1;
    }
  }
  BOOST_TEST(cases.size() >= 5u);
  BOOST_TEST(zero, spec.name << ": no case has an input of size zero");
  BOOST_TEST(one, spec.name << ": no case has an input of size one");
}

boost::unit_test::test_suite& suite_named(const std::string& name) {
  auto& master = boost::unit_test::framework::master_test_suite();
  const auto id = master.get(name);
  if (id != boost::unit_test::INV_TEST_UNIT_ID)
    return boost::unit_test::framework::get<boost::unit_test::test_suite>(id);
  auto* suite = BOOST_TEST_SUITE(name);
  master.add(suite);
  return *suite;
}

}  // namespace

Tolerance tolerance_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return {1e-10, 1e-12};
    case DType::f32:
      return {1.3e-6, 1e-5};
    case DType::bf16:
      return {1.6e-2, 1e-2};
    default:
      return {0, 0};
  }
}

OpSpec::OpSpec(const char* name, std::function<std::vector<OpCase>()> cases, OpSpecOptions options) {
  const auto spec = std::make_shared<Spec>(Spec{name, std::move(cases), std::move(options)});
  all_specs().push_back(spec);
  auto& suite = suite_named(name);
  const auto add = [&](const std::string& test, std::function<void()> body) {
    suite.add(boost::unit_test::make_test_case(std::move(body), test, __FILE__, __LINE__));
  };
  add("cases", [spec] { check_cases(*spec); });
  for (const DType dtype : spec->options.dtypes) {
    add("values_" + std::string(name_of(dtype)), [spec, dtype] { check_values(*spec, dtype); });
  }
  if (spec->options.gradient) add("gradients", [spec] { check_gradients(*spec); });
  add("same_bits_for_any_thread_count", [spec] { check_threads(*spec); });
  for (const DType dtype : spec->options.dtypes) {
    auto* test = boost::unit_test::make_test_case([spec, dtype] { check_device(*spec, dtype); },
                                                  "device_" + std::string(name_of(dtype)), __FILE__, __LINE__);
    test->add_precondition(
        [](boost::unit_test::test_unit_id) -> boost::test_tools::assertion_result { return tests_cuda(); });
    suite.add(test);
  }
}

void run_every_spec_once() {
  for (const auto& spec : all_specs()) {
    for (const OpCase& c : spec->cases()) {
      const Tensors inputs = make_inputs(c, spec->options.dtypes[0], 3, false);
      for (size_t i = 0; i < inputs.size(); ++i) {
        const bool wanted =
            spec->options.gradient && c.inputs[i].differentiable && is_floating_point(inputs[i].dtype());
        if (wanted) Tensor(inputs[i]).set_requires_grad(true);
      }
      Tensors roots, grads;
      for (const Tensor& y : c.call(inputs)) {
        if (!y.requires_grad()) continue;
        roots.push_back(y);
        grads.push_back(full(y.shape(), 1, y.dtype()));
      }
      if (!roots.empty()) backward(roots, grads);
    }
  }
}

Tensor make_input(const Input& input, DType dtype, uint64_t draw, bool strided) {
  const RandomCall call{random_key("tests", "inputs"), static_cast<uint16_t>(draw), draw >> 16};
  Array values(input.shape);
  const bool integers = !is_floating_point(input.dtype);
  for (int64_t i = 0; i < values.size(); ++i) {
    const double u = static_cast<double>(uniform(random_words(call, static_cast<uint64_t>(i))[0]));
    const double x = input.low + u * (input.high - input.low);
    values[i] = integers ? std::floor(x) : x;
  }
  const Tensor x = copy_to(Tensor::from(values.values, input.shape), cpu_device, integers ? input.dtype : dtype);
  if (!strided || x.numel() == 0 || x.rank() == max_rank) return x;
  Shape wide = input.shape;
  wide.push_back(2);
  const Tensor buffer = full(wide, 1, x.dtype());
  Shape strides = contiguous_strides(wide);
  strides.erase(strides.rank() - 1);
  const Tensor view(buffer.storage(), input.shape, strides, 0, x.dtype());
  overwrite(x, view);
  return view;
}

Array to_array(const Tensor& x) {
  Array array;
  array.shape = x.shape();
  array.values = x.to_vector<double>();
  return array;
}

void check_close(const Tensor& actual, const Array& expected, Tolerance tolerance) {
  BOOST_TEST_REQUIRE(actual.shape() == expected.shape,
                     "shape " << message(actual.shape()) << ", expected " << message(expected.shape));
  const std::vector<double> values = actual.to_vector<double>();
  int reported = 0;
  for (size_t i = 0; i < values.size() && reported < 5; ++i) {
    const double want = expected.values[i];
    const bool same = values[i] == want || (std::isnan(values[i]) && std::isnan(want));
    if (same || std::abs(values[i] - want) <= tolerance.atol + tolerance.rtol * std::abs(want)) continue;
    ++reported;
    BOOST_ERROR("element " << i << " of " << message(actual) << ": " << values[i] << ", expected " << want);
  }
  BOOST_TEST(reported == 0);
}

void check_same_bits(const Tensor& a, const Tensor& b) {
  BOOST_TEST_REQUIRE(a.shape() == b.shape());
  BOOST_TEST_REQUIRE((a.dtype() == b.dtype()));
  const Tensor x = copy_to(a, cpu_device, a.dtype()), y = copy_to(b, cpu_device, b.dtype());
  const size_t bytes = static_cast<size_t>(x.numel()) * size_of(x.dtype());
  BOOST_TEST(std::memcmp(ConstView(x).raw(), ConstView(y).raw(), bytes) == 0, "bits differ: " << message(a));
}

void report_error_text(bool thrown, const std::string& message, const std::string& text) {
  if (!thrown) {
    BOOST_ERROR("nothing was thrown; expected: " << text);
  } else {
    BOOST_TEST(message.find(text) != std::string::npos, "thrown: " << message << "\nexpected: " << text);
  }
}

}  // namespace mahia::tests
