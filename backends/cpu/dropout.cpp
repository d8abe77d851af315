// SPDX-License-Identifier: Apache-2.0
#include "ops/dropout.hpp"

#include <immintrin.h>

#include <cmath>

#include "backends/cpu/elementwise.hpp"

namespace mahia::cpu {
namespace {

constexpr int lanes = 4, vectors = 4;  // 16 Philox counters advance side by side, one word in each 64-bit lane
constexpr int64_t group_words = 4 * lanes * vectors;

__m256i in_each_lane(uint32_t word) { return _mm256_set1_epi64x(word); }

// The words of 64 elements from 4 * block on, as random_words() gives them. The multiplication reads the lower half of
// a lane only, so the upper halves may hold anything.
void random_group(const RandomCall& call, uint64_t block, uint32_t words[group_words]) {
  const std::array<uint32_t, 4> first = philox_counter(call, block);
  std::array<uint32_t, 2> key = philox_key(call);
  __m256i state[vectors][4];
  for (int v = 0; v < vectors; ++v) {
    // Groups begin at multiples of 16 blocks, so the lower word does not overflow inside one.
    state[v][0] = _mm256_add_epi64(in_each_lane(first[0]), _mm256_setr_epi64x(4 * v, 4 * v + 1, 4 * v + 2, 4 * v + 3));
    for (size_t j = 1; j < 4; ++j) state[v][j] = in_each_lane(first[j]);
  }
  for (int round = 0; round < 10; ++round) {
    for (auto& s : state) {
      const __m256i left = _mm256_mul_epu32(s[0], in_each_lane(0xD2511F53u));
      const __m256i right = _mm256_mul_epu32(s[2], in_each_lane(0xCD9E8D57u));
      s[0] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(right, 32), s[1]), in_each_lane(key[0]));
      s[1] = right;
      s[2] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(left, 32), s[3]), in_each_lane(key[1]));
      s[3] = left;
    }
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  for (int v = 0; v < vectors; ++v) {
    alignas(32) uint64_t word[4][lanes];
    for (int j = 0; j < 4; ++j) _mm256_store_si256(reinterpret_cast<__m256i*>(word[j]), state[v][j]);
    for (int k = 0; k < lanes; ++k) {
      for (int j = 0; j < 4; ++j) words[(v * lanes + k) * 4 + j] = static_cast<uint32_t>(word[j][k]);
    }
  }
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
