// SPDX-License-Identifier: Apache-2.0
#include <mahia/core/factory.hpp>
#include <mahia/nn/linear.hpp>

#include "core/tensor.hpp"

int main() {
  mahia::nn::Linear linear(4, consumer::Tensor{}.dims);
  const mahia::Tensor y = linear(mahia::ones({2, 4}));
  return y.shape() == mahia::Shape{2, 3} ? 0 : 1;
}
