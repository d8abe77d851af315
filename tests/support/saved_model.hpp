// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/copy.hpp"
#include "core/factory.hpp"
#include "nn/module.hpp"
#include "train/checkpoint.hpp"

namespace mahia::tests {

// 200 KB of weights and moments that all hold one number, so that a mixture of two saves is seen.
struct SavedModel {
  struct Model : nn::Module {
    Tensor weight = parameter("weight", zeros({64, 256}));
    Tensor bias = parameter("bias", zeros({256}));
  };

  void set(int64_t number) const {
    for (const nn::NamedTensors& tensors : {model.named_parameters(), optimizer.state_dict()}) {
      for (const auto& [name, tensor] : tensors) fill(tensor, static_cast<double>(number));
    }
  }
  // The number that all values hold; -1 when they differ.
  int64_t number() const {
    const auto first = static_cast<int64_t>(model.bias.to_vector<float>()[0]);
    for (const nn::NamedTensors& tensors : {model.named_parameters(), optimizer.state_dict()}) {
      for (const auto& [name, tensor] : tensors) {
        for (const float value : tensor.to_vector<float>()) {
          if (value != static_cast<float>(first)) return -1;
        }
      }
    }
    return first;
  }

  Model model;
  train::AdamW optimizer{model};
};

}  // namespace mahia::tests
