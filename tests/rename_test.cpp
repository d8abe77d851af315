// SPDX-License-Identifier: Apache-2.0
#include "train/rename.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>

#include "core/factory.hpp"
#include "nn/models/hyena_lm.hpp"
#include "tests/support/fixture.hpp"
#include "tests/support/op_spec.hpp"
#include "tests/support/temporary_folder.hpp"

namespace mahia::train {
namespace {

using nn::models::HyenaLM;
using tests::check_near;
using tests::check_throws;
using tests::Fixture;

std::vector<std::string> names_of(const nn::NamedTensors& tensors) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) names.push_back(name);
  return names;
}

nn::NamedTensors named(const std::vector<std::string>& names) {
  nn::NamedTensors tensors;
  for (const std::string& name : names) tensors.emplace_back(name, zeros({1}));
  return tensors;
}

struct Case {
  const char* name;
  int64_t order, embedding, l_max;
};
const std::vector<Case> cases = {{"hyena_reference_lm_order2", 2, 5, 20}, {"hyena_reference_lm_order3", 3, 3, 17}};

nn::models::HyenaLMConfig config_of(const Case& c) {
  return {.vocab = 11,
          .width = 8,
          .layers = 2,
          .l_max = c.l_max,
          .order = c.order,
          .filter = {.embedding = c.embedding, .hidden = 8}};
}

BOOST_AUTO_TEST_SUITE(rename_rules)

BOOST_AUTO_TEST_CASE(rules_apply_one_after_the_other) {
  const RenameRules rules = {{"model.*", "*"}, {"a.*.w", "b.*.weight"}, {"c", "d"}, {"gone.*", ""}, {"x.*", "fixed"}};
  const nn::NamedTensors out = renamed(named({"model.a.1.2.w", "a.w", "c", "gone.bias", "x.7", "other"}), rules);
  BOOST_TEST((names_of(out) == std::vector<std::string>{"b.1.2.weight", "a.w", "d", "fixed", "other"}));
  check_throws<ValueError>([&] { renamed(named({"c", "model.d"}), rules); }, "`c` and `model.d` both become `d`");
}

BOOST_AUTO_TEST_CASE(checkpoints_of_the_reference_give_its_outputs) {
  for (const Case& c : cases) {
    BOOST_TEST_CONTEXT(c.name) {
      const Fixture f(c.name);
      HyenaLM model(config_of(c));
      model.eval();
      load_state_dict(model, f.state(), hyena_reference_names());
      check_near(model(f["input.ids"]), f["output.y"], 1e-5, "logits");
    }
  }
}

// As safetensors' save_model writes it: shared tensors once, and the trainer's prefix.
BOOST_AUTO_TEST_CASE(files_without_the_shared_names_load_too) {
  const Fixture f(cases[0].name);
  nn::NamedTensors stored;
  for (const auto& [name, tensor] : f.state()) {
    const bool is_shared = name == "lm_head.weight" || name.ends_with("3.freq") || name.ends_with("5.freq");
    if (!is_shared) stored.emplace_back("model." + name, tensor);
  }
  const tests::TemporaryFolder folder;
  save_safetensors(folder.path() + "/reference.safetensors", stored);
  HyenaLM model(config_of(cases[0]));
  model.eval();
  load_state_dict(model, load_safetensors(folder.path() + "/reference.safetensors").tensors, hyena_reference_names());
  check_near(model(f["input.ids"]), f["output.y"], 1e-5, "logits");
}

BOOST_AUTO_TEST_CASE(what_does_not_fit_is_named_and_nothing_is_loaded) {
  const Fixture f(cases[0].name);
  HyenaLM model(config_of(cases[0]));
  nn::NamedTensors state = f.state();
  state.emplace_back("backbone.layers.7.norm1.weight", zeros({8}));
  check_throws<ValueError>([&] { load_state_dict(model, state, hyena_reference_names(), "my.safetensors"); },
                           "my.safetensors: load_state_dict: nothing was loaded:\n  unexpected: layers.7.norm1.weight");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
