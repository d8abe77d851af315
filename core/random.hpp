// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>

namespace mahia {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
constexpr std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

// One use of randomness: everything but the element index. Ops that draw take it as an argument and stay pure.
struct RandomCall {
  uint64_t key = 0;   // hash(seed, module path, purpose)
  uint16_t call = 0;  // how often this key was used in this step
  uint64_t step = 0;  // optimizer steps done; 48 bits
};

constexpr std::array<uint32_t, 4> philox_counter(const RandomCall& r, uint64_t block) {
  return {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
          (static_cast<uint32_t>(r.step >> 32) << 16) | r.call, static_cast<uint32_t>(r.step)};
}
constexpr std::array<uint32_t, 2> philox_key(const RandomCall& r) {
  return {static_cast<uint32_t>(r.key), static_cast<uint32_t>(r.key >> 32)};
}

// Four words for the elements 4 * block ... 4 * block + 3.
constexpr std::array<uint32_t, 4> random_words(const RandomCall& r, uint64_t block) {
  return philox(philox_counter(r, block), philox_key(r));
}

// Uniform in [0, 1): the word's upper 24 bits.
constexpr float uniform(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

// The seed of all streams; every stream starts again from its first number. Default 0, or MAHIA_SEED.
void manual_seed(uint64_t seed);
uint64_t random_seed();

// The optimizer steps done so far, part of every counter; advanced by optimizers, stored in checkpoints.
uint64_t random_step();
void set_random_step(uint64_t step);

// hash(seed, path, purpose): the key of a module's stream.
uint64_t random_key(std::string_view path, std::string_view purpose);

// The next call of a key in this step, counted per thread.
RandomCall next_random_call(uint64_t key);
// The stream behind rand(), randn(), randint() without an explicit call.
RandomCall next_random_call();

// The calling thread's call counts, to be put back when a computation is run again (activation checkpointing).
struct RandomCounts {
  uint64_t step = 0;
  std::unordered_map<uint64_t, uint16_t> calls;
};
RandomCounts random_counts();
void set_random_counts(RandomCounts counts);

}  // namespace mahia
