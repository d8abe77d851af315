// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fixture.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <fstream>
#include <set>

#include "train/safetensors.hpp"

namespace mahia::tests {
namespace {

std::string path_of(const std::string& file) { return std::string(MAHIA_SOURCE_DIR) + "/tests/fixtures/" + file; }

// "norm.weight [8] parameter" per line, as make_fixtures.py writes it.
std::set<std::string> lines_of(const nn::Module& module) {
  std::set<const void*> parameters;
  std::set<std::string> lines, first_names;
  const nn::NamedTensors named = module.named_parameters();
  for (const auto& [name, tensor] : named) first_names.insert(name);
  for (const auto& [name, tensor] : named) parameters.insert(tensor.storage().get());
  for (const auto& [name, tensor] : module.state_dict()) {
    const bool is_parameter = parameters.contains(tensor.storage().get());
    const char* kind = !is_parameter ? "buffer" : first_names.contains(name) ? "parameter" : "shared";
    lines.insert(name + " " + message(tensor.shape()) + " " + kind);
  }
  return lines;
}

}  // namespace

Fixture::Fixture(const std::string& name) {
  for (const auto& [key, value] : train::load_safetensors(path_of(name + ".safetensors")).tensors) {
    values_.emplace(key, value);
  }
}

Tensor Fixture::operator[](const std::string& key) const {
  const auto found = values_.find(key);
  BOOST_REQUIRE_MESSAGE(found != values_.end(), "no " << key << " in the fixture");
  return found->second;
}

nn::NamedTensors Fixture::state() const {
  nn::NamedTensors state;
  for (const auto& [key, value] : values_) {
    if (key.starts_with("state.")) state.emplace_back(key.substr(6), value);
  }
  return state;
}

void check_names(const nn::Module& module, const std::string& name) {
  std::ifstream file(path_of(name + ".names.txt"));
  std::string line;
  BOOST_REQUIRE(std::getline(file, line));
  BOOST_TEST(line == "# " + std::to_string(module.num_parameters()) + " parameters");
  std::set<std::string> expected;
  while (std::getline(file, line)) expected.insert(line);
  BOOST_TEST(lines_of(module) == expected, boost::test_tools::per_element());
}

void check_near(const Tensor& actual, const Tensor& expected, double tolerance, const std::string& what) {
  BOOST_TEST_REQUIRE(actual.defined(), what << " is missing");
  BOOST_TEST_REQUIRE(actual.shape() == expected.shape(), what << ": shape " << message(actual.shape()));
  const auto a = actual.to_vector<double>(), b = expected.to_vector<double>();
  double worst = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double error = std::abs(a[i] - b[i]);
    if (!(error <= worst)) worst = error;  // also when it is NaN
    largest = std::max(largest, std::abs(b[i]));
  }
  BOOST_TEST(worst <= tolerance * std::max(largest, 1e-6), what << " is off by " << worst << " of " << largest);
}

void check_gradients(const nn::Module& module, const Fixture& fixture, const std::string& prefix, double tolerance) {
  int compared = 0;
  for (const auto& [name, parameter] : module.named_parameters()) {
    if (!fixture.has(prefix + name)) continue;
    check_near(parameter.grad(), fixture[prefix + name], tolerance, prefix + name);
    ++compared;
  }
  BOOST_TEST(compared > 0);
}

}  // namespace mahia::tests
