// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "../core/tensor.hpp"

namespace mahia::nn {

// Filters kept for as long as the tensors that they were made of stay the same. Threads may share one.
class HyenaFilterCache {
 public:
  // The first `time` taps (.., time): kept ones, or else those of make(time).
  Tensor first(int64_t time, const Tensors& sources, const std::function<Tensor(int64_t)>& make);
  void clear();

 private:
  using Versions = std::vector<std::pair<std::shared_ptr<Storage>, uint64_t>>;

  std::mutex mutex_;
  Versions versions_;
  Tensor filters_;
};

}  // namespace mahia::nn
