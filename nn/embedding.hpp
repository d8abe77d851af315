// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "module.hpp"

namespace mahia::nn {

// Rows of weight (V, D), N(0, 1) at first, as torch.nn.Embedding. The row `padding`, if any, is 0 at first and gets no
// gradient.
class Embedding : public Module {
 public:
  Embedding(int64_t num_embeddings, int64_t width, std::optional<int64_t> padding = {});
  Tensor operator()(const Tensor& ids) const;  // (..) i64 -> (.., D)
  const Tensor& weight() const { return weight_; }
  std::string summary() const override;

 private:
  Tensor weight_;
  std::optional<int64_t> padding_;
};

}  // namespace mahia::nn
