// SPDX-License-Identifier: Apache-2.0
#include "nn/hyena_filter_cache.hpp"

#include "ops/shape.hpp"

namespace mahia::nn {

Tensor HyenaFilterCache::first(int64_t time, const Tensors& sources, const std::function<Tensor(int64_t)>& make) {
  Versions versions;
  for (const Tensor& source : sources) versions.emplace_back(source.storage(), source.version());
  const std::lock_guard lock(mutex_);
  if (!filters_ || versions != versions_ || filters_.size(-1) < time) {
    filters_ = make(time);
    versions_ = std::move(versions);
  }
  return narrow(filters_, -1, 0, time);
}

void HyenaFilterCache::clear() {
  const std::lock_guard lock(mutex_);
  filters_ = {};
  versions_.clear();
}

}  // namespace mahia::nn
