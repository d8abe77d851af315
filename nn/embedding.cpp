// SPDX-License-Identifier: Apache-2.0
#include "nn/embedding.hpp"

#include "nn/init.hpp"
#include "ops/index.hpp"

namespace mahia::nn {

Embedding::Embedding(int64_t num_embeddings, int64_t width) {
  check<ValueError>(num_embeddings >= 1 && width >= 1, "Embedding: num_embeddings ", num_embeddings, " and width ",
                    width, " must be at least 1");
  weight_ = parameter("weight", init::normal({num_embeddings, width}, 1, init_call("weight")));
}

Tensor Embedding::operator()(const Tensor& ids) const { return embedding(ids, weight_); }
std::string Embedding::summary() const { return message(weight_.size(0), " x ", weight_.size(1)); }

}  // namespace mahia::nn
