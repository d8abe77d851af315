// SPDX-License-Identifier: Apache-2.0
#include "nn/embedding.hpp"

#include "core/copy.hpp"
#include "nn/init.hpp"
#include "ops/binary.hpp"
#include "ops/compare.hpp"
#include "ops/index.hpp"
#include "ops/shape.hpp"

namespace mahia::nn {

Embedding::Embedding(int64_t num_embeddings, int64_t width, std::optional<int64_t> padding) : padding_(padding) {
  check<ValueError>(num_embeddings >= 1 && width >= 1, "Embedding: num_embeddings ", num_embeddings, " and width ",
                    width, " must be at least 1");
  const Tensor rows = init::normal({num_embeddings, width}, 1, init_call("weight"));
  if (padding) {
    check<IndexError>(*padding >= 0 && *padding < num_embeddings, "Embedding: padding is ", *padding,
                      ", must be in [0, ", num_embeddings, ")");
    fill(select(rows, 0, *padding), 0);
  }
  weight_ = parameter("weight", rows);
}

Tensor Embedding::operator()(const Tensor& ids) const {
  const Tensor y = embedding(ids, weight_);
  return padding_ ? where(unsqueeze(eq(ids, static_cast<double>(*padding_)), -1), y.detach(), y) : y;
}

std::string Embedding::summary() const { return message(weight_.size(0), " x ", weight_.size(1)); }

}  // namespace mahia::nn
