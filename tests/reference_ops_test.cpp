// SPDX-License-Identifier: Apache-2.0
// Ops against the values and gradients that PyTorch computed once (docs/fixtures.md), in f64 and f32.
#include <boost/test/unit_test.hpp>
#include <map>

#include "autograd/backward.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/cross_entropy.hpp"
#include "ops/linear.hpp"
#include "ops/norm.hpp"
#include "ops/shape.hpp"
#include "tests/support/op_spec.hpp"
#include "train/safetensors.hpp"

namespace mahia::tests {
namespace {

using Values = std::map<std::string, Tensor>;

Values read_fixture(const std::string& name) {
  Values values;
  const std::string folder = std::string(MAHIA_SOURCE_DIR) + "/tests/fixtures/";
  for (const auto& [key, tensor] : train::load_safetensors(folder + name + ".safetensors").tensors) {
    values[key] = tensor;
  }
  return values;
}

Tensor value_or_none(const Values& values, const std::string& key) {
  const auto found = values.find(key);
  return found == values.end() ? Tensor() : found->second;
}

// Calls op with the fixture's tensors in each dtype; y and the gradient of each input and parameter must agree.
void compare(const std::string& name, const std::function<Tensor(const Values&)>& op) {
  for (const DType dtype : {DType::f64, DType::f32}) {
    BOOST_TEST_CONTEXT(name << " in " << name_of(dtype)) {
      Values values = read_fixture(name);
      const Values expected = values;
      for (auto& [key, tensor] : values) {
        if (is_floating_point(tensor.dtype())) tensor = copy_to(tensor, cpu_device, dtype);
        if (expected.contains("grad." + key)) tensor = clone(tensor).set_requires_grad(true);
      }
      const Tensor y = op(values);
      check_close(y, to_array(expected.at("output.y")), tolerance_of(dtype));
      backward({y}, {values.at("grad_output")});
      int compared = 0;
      for (const auto& [key, tensor] : values) {
        if (!tensor.requires_grad()) continue;
        check_close(tensor.grad(), to_array(expected.at("grad." + key)), tolerance_of(dtype));
        ++compared;
      }
      BOOST_TEST(compared > 0);
    }
  }
}

Tensor input(const Values& v) { return v.at("input.x"); }
Tensor weight(const Values& v) { return value_or_none(v, "state.weight"); }
Tensor bias(const Values& v) { return value_or_none(v, "state.bias"); }

BOOST_AUTO_TEST_SUITE(reference_ops)

BOOST_AUTO_TEST_CASE(linear_equals_pytorch) {
  for (const char* name : {"linear", "linear_no_bias"}) {
    compare(name, [](const Values& v) { return linear(input(v), weight(v), bias(v)); });
  }
}

BOOST_AUTO_TEST_CASE(norms_equal_pytorch) {
  compare("layer_norm", [](const Values& v) { return layer_norm(input(v), weight(v), bias(v)); });
  compare("layer_norm_no_bias", [](const Values& v) { return layer_norm(input(v), weight(v), {}, 1e-3); });
  compare("layer_norm_two_axes", [](const Values& v) {
    return reshape(layer_norm(flatten(input(v), 1), flatten(weight(v)), flatten(bias(v))), input(v).shape());
  });
  compare("rms_norm", [](const Values& v) { return rms_norm(input(v), weight(v), 1e-6); });
}

BOOST_AUTO_TEST_CASE(batch_norm_equals_pytorch) {
  const auto compare_batch_norm = [](const std::string& name, bool training, double momentum) {
    compare(name, [=](const Values& v) {
      const BatchNorm result = batch_norm(input(v), weight(v), bias(v), v.at("state.running_mean"),
                                          v.at("state.running_var"), training, momentum);
      if (training) {
        const Tolerance tolerance = tolerance_of(result.running_mean.dtype());
        check_close(result.running_mean, to_array(v.at("state_after.running_mean")), tolerance);
        check_close(result.running_var, to_array(v.at("state_after.running_var")), tolerance);
      }
      return result.y;
    });
  };
  compare_batch_norm("batch_norm1d_train", true, 0.1);
  compare_batch_norm("batch_norm1d_train_time", true, 0.3);
  compare_batch_norm("batch_norm1d_eval", false, 0.1);
}

BOOST_AUTO_TEST_CASE(cross_entropy_equals_pytorch) {
  const std::pair<const char*, CrossEntropyOptions> cases[] = {
      {"cross_entropy", {}},
      {"cross_entropy_ignore_index", {.ignore_index = 2}},
      {"cross_entropy_mean_ignore", {}},
      {"cross_entropy_mean_ignore_smoothing", {.label_smoothing = 0.1}},
      {"cross_entropy_none_ignore", {.reduction = Reduction::none}},
      {"cross_entropy_none_ignore_smoothing", {.label_smoothing = 0.1, .reduction = Reduction::none}},
      {"cross_entropy_smoothing", {.label_smoothing = 0.1}},
      {"cross_entropy_sum_ignore", {.reduction = Reduction::sum}},
      {"cross_entropy_sum_smoothing", {.label_smoothing = 0.2, .reduction = Reduction::sum}},
  };
  for (const auto& [name, options] : cases) {
    compare(name,
            [options = options](const Values& v) { return cross_entropy(input(v), v.at("input.target"), options); });
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
