// SPDX-License-Identifier: Apache-2.0
#include "core/random.hpp"

#include <atomic>

namespace mahia {
namespace {

std::atomic<uint64_t> seed{0};
std::atomic<uint64_t> seed_epoch{0};
std::atomic<uint64_t> step{0};

struct ThreadCounts {
  uint64_t epoch = 0;
  RandomCounts counts;
};
thread_local ThreadCounts thread_counts;

// Counts start again with every step and every seed.
RandomCounts& current_counts() {
  const uint64_t epoch = seed_epoch.load(std::memory_order_relaxed), now = random_step();
  if (thread_counts.epoch != epoch || thread_counts.counts.step != now) {
    thread_counts.epoch = epoch;
    thread_counts.counts = {now, {}};
  }
  return thread_counts.counts;
}

// FNV-1a, finished with the mixer of SplitMix64.
uint64_t hash(uint64_t state, std::string_view text) {
  for (const char c : text) state = (state ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
  state = (state ^ (state >> 27)) * 0x94d049bb133111ebu;
  return state ^ (state >> 31);
}

}  // namespace

void manual_seed(uint64_t value) {
  seed = value;
  step = 0;
  seed_epoch.fetch_add(1);
}

uint64_t random_seed() { return seed; }
uint64_t random_step() { return step.load(std::memory_order_relaxed); }
void set_random_step(uint64_t value) { step = value; }

uint64_t random_key(std::string_view path, std::string_view purpose) {
  return hash(hash(hash(0xcbf29ce484222325u ^ seed.load(), "mahia"), path), purpose);
}

RandomCall next_random_call(uint64_t key) {
  RandomCounts& counts = current_counts();
  return {key, counts.calls[key]++, counts.step};
}

RandomCall next_random_call() { return next_random_call(random_key("", "program")); }

RandomCounts random_counts() { return current_counts(); }

void set_random_counts(RandomCounts counts) {
  current_counts();
  thread_counts.counts = std::move(counts);
}

}  // namespace mahia
