// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

#include "nn/module.hpp"

namespace mahia::tests {

// A file of numbers that PyTorch computed once (docs/fixtures.md).
class Fixture {
 public:
  explicit Fixture(const std::string& name);
  Tensor operator[](const std::string& key) const;  // a missing key ends the test case
  bool has(const std::string& key) const { return values_.contains(key); }
  nn::NamedTensors state() const;  // the module's state_dict before the call

 private:
  std::map<std::string, Tensor> values_;
};

// The module's names, shapes and kinds and its number of parameters are those of tests/fixtures/NAME.names.txt.
void check_names(const nn::Module& module, const std::string& name);
// Norm-wise: |a - b| <= tolerance * largest |b|. Filters at high frequencies amplify single elements.
void check_near(const Tensor& actual, const Tensor& expected, double tolerance, const std::string& what);
// Every parameter's gradient against the fixture's PREFIX + name.
void check_gradients(const nn::Module& module, const Fixture& fixture, const std::string& prefix, double tolerance);

}  // namespace mahia::tests
