// SPDX-License-Identifier: Apache-2.0
#include "ops/dropout.hpp"

#include <cmath>

#include "backends/cpu/elementwise.hpp"

namespace mahia::cpu {
namespace {

constexpr int64_t group = 16;  // counters advanced together, so that the rounds vectorise
constexpr int64_t group_words = 4 * group;

// The words of the elements 4 block ... 4 block + 63: random_words() of 16 blocks, side by side.
void random_group(const RandomCall& call, uint64_t first_block, uint32_t words[group_words]) {
  std::array<uint32_t, 4> lane[group];
  for (uint64_t k = 0; k < group; ++k) lane[k] = random_words(call, first_block + k);
  for (size_t k = 0; k < group; ++k) std::copy_n(lane[k].data(), 4, words + 4 * k);
}

// An element stays when its uniform number, the upper 24 bits of its word, is at least p.
void dropout(ConstView x, View y, double p, RandomCall call) {
  const int64_t n = x.numel();
  const auto threshold = static_cast<uint32_t>(std::ceil(p * 0x1p24));
  visit_float(x.dtype(), [&]<class T>() {
    using S = compute_t<T>;
    const S scale = p < 1 ? static_cast<S>(1 / (1 - p)) : S{0};
    const T* from = x.data<T>();
    T* to = y.data<T>();
    parallel_rows(n, elementwise_tile, [&](int64_t begin, int64_t end) {
      uint32_t words[group_words];
      for (int64_t at = begin; at < end; at += group_words) {
        random_group(call, static_cast<uint64_t>(at / 4), words);
        const int64_t count = std::min(group_words, end - at);
        for (int64_t i = 0; i < count; ++i) {
          const S kept = convert<S>(from[at + i]) * scale;
          to[at + i] = convert<T>(words[i] >> 8 >= threshold ? kept : S{0});
        }
      }
    });
  });
}

const Registered registered_dropout(DeviceType::cpu, kernels::dropout, dropout);

}  // namespace
}  // namespace mahia::cpu
