// SPDX-License-Identifier: Apache-2.0
#include "tests/support/numeric_gradient.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>

#include "autograd/grad_mode.hpp"
#include "core/tensor.hpp"

namespace mahia::tests {

void check_gradients(const nn::NamedTensors& leaves, const std::function<Tensor()>& loss, size_t samples) {
  constexpr double h = 1e-6;
  const NoGrad no_grad;
  for (const auto& [name, leaf] : leaves) {
    const std::vector<double> values = leaf.to_vector<double>(), grad = leaf.grad().to_vector<double>();
    for (size_t i = 0; i < values.size(); i += values.size() / samples + 1) {
      const auto loss_at = [&](double value) {
        std::vector<double> moved = values;
        moved[i] = value;
        copy_into(Tensor::from(moved, leaf.shape()), leaf);
        return loss().item<double>();
      };
      const double numeric = (loss_at(values[i] + h) - loss_at(values[i] - h)) / (2 * h);
      BOOST_TEST(std::abs(grad[i] - numeric) <= 1e-6 + 1e-5 * std::abs(numeric),
                 name << "[" << i << "]: " << grad[i] << ", numeric " << numeric);
    }
    copy_into(Tensor::from(values, leaf.shape()), leaf);
  }
}

}  // namespace mahia::tests
