// SPDX-License-Identifier: Apache-2.0
// Layers as modules against the values and gradients that PyTorch computed once (docs/fixtures.md), in f64 and f32.
#include <boost/test/unit_test.hpp>

#include "autograd/backward.hpp"
#include "core/copy.hpp"
#include "nn/activation.hpp"
#include "nn/conv1d.hpp"
#include "nn/embedding.hpp"
#include "nn/linear.hpp"
#include "nn/norm.hpp"
#include "tests/support/fixture.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::nn {
namespace {

using tests::check_names;
using tests::Fixture;

// A new module for each dtype: loads the fixture's state, calls it and compares result, gradients and changed buffers.
template <class Build>
void compare(const std::string& name, Build&& build, const std::string& input = "x") {
  const Fixture f(name);
  for (const DType dtype : {DType::f64, DType::f32}) {
    BOOST_TEST_CONTEXT(name << " in " << name_of(dtype)) {
      const tests::Tolerance tolerance = tests::tolerance_of(dtype);
      const auto module = build();
      module->to(dtype);
      module->load_state_dict(f.state());
      Tensor x = f["input." + input];
      if (is_floating_point(x.dtype())) x = clone(copy_to(x, cpu_device, dtype)).set_requires_grad(true);
      const Tensor y = (*module)(x);
      check_close(y, tests::to_array(f["output.y"]), tolerance);
      backward({y}, {copy_to(f["grad_output"], cpu_device, dtype)});
      if (x.requires_grad()) check_close(x.grad(), tests::to_array(f["grad.input." + input]), tolerance);
      for (const auto& [key, tensor] : module->named_parameters()) {
        check_close(tensor.grad(), tests::to_array(f["grad.state." + key]), tolerance);
      }
      for (const auto& [key, tensor] : module->named_buffers()) {
        if (f.has("state_after." + key)) check_close(tensor, tests::to_array(f["state_after." + key]), tolerance);
      }
    }
  }
}

BOOST_AUTO_TEST_SUITE(reference_layers)

BOOST_AUTO_TEST_CASE(names_equal_pytorch) {
  check_names(Linear(6, 4), "linear");
  check_names(Linear(7, 3, false), "linear_no_bias");
  check_names(LayerNorm(9), "layer_norm");
  check_names(RMSNorm(9), "rms_norm");
  check_names(BatchNorm1d(4), "batch_norm1d_train");
  check_names(Embedding(7, 5), "embedding");
  check_names(Conv1d(3, 5, 3), "conv1d");
}

BOOST_AUTO_TEST_CASE(linear_and_embedding_equal_pytorch) {
  for (const bool bias : {true, false}) {
    const std::string name = bias ? "linear" : "linear_no_bias";
    const Tensor weight = Fixture(name)["state.weight"];
    compare(name, [&] { return std::make_unique<Linear>(weight.size(1), weight.size(0), bias); });
  }
  compare(
      "embedding", [] { return std::make_unique<Embedding>(7, 5); }, "ids");
  compare(
      "embedding_padding", [] { return std::make_unique<Embedding>(7, 5, 3); }, "ids");
}

BOOST_AUTO_TEST_CASE(norms_equal_pytorch) {
  compare("layer_norm", [] { return std::make_unique<LayerNorm>(9); });
  compare("layer_norm_no_bias", [] { return std::make_unique<LayerNorm>(8, 1e-3, false); });
  compare("rms_norm", [] { return std::make_unique<RMSNorm>(9, 1e-6); });
  compare("batch_norm1d_train", [] { return std::make_unique<BatchNorm1d>(4); });
  compare("batch_norm1d_train_time", [] { return std::make_unique<BatchNorm1d>(3, 1e-5, 0.3); });
  compare("batch_norm1d_eval", [] {
    auto norm = std::make_unique<BatchNorm1d>(4);
    norm->eval();
    return norm;
  });
}

BOOST_AUTO_TEST_CASE(conv1d_equals_pytorch) {
  struct Case {
    const char* name;
    int64_t in, out, taps;
    Conv1dOptions options;
    bool bias = true;
  };
  for (const Case& c : {Case{"conv1d", 3, 5, 3, {}}, Case{"conv1d_no_bias", 4, 2, 1, {}, false},
                        Case{"conv1d_stride2_padding1", 3, 4, 3, {.stride = 2, .padding = 1}},
                        Case{"conv1d_dilation2_padding4", 2, 3, 3, {.padding = 4, .dilation = 2}},
                        Case{"conv1d_groups2", 4, 6, 2, {.groups = 2}},
                        Case{"conv1d_all", 6, 9, 4, {.stride = 3, .padding = 5, .dilation = 2, .groups = 3}},
                        Case{"conv1d_depthwise_causal", 5, 5, 3, {.padding = 2, .groups = 5}},
                        Case{"conv1d_depthwise_same", 5, 5, 5, {.padding = Padding::same, .groups = 5}},
                        Case{"conv1d_depthwise_multiplier", 3, 6, 3, {.padding = 1, .groups = 3}}}) {
    compare(c.name, [&] { return std::make_unique<Conv1d>(c.in, c.out, c.taps, c.options, c.bias); });
  }
}

BOOST_AUTO_TEST_CASE(activations_equal_pytorch) {
  compare("gelu", [] { return std::make_unique<Gelu>(); });
  compare("gelu_tanh", [] { return std::make_unique<Gelu>(Approximate::tanh); });
  compare("silu", [] { return std::make_unique<Silu>(); });
  compare("softplus", [] { return std::make_unique<Softplus>(); });
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
