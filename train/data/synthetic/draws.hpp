// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../../../core/random.hpp"

namespace mahia::train::synthetic {

// What random numbers are for; each has streams of its own.
enum class Purpose : uint16_t { training, test, order };

// The random numbers of one example: a pure function of seed, purpose and the example's number. Integer arithmetic and
// single IEEE operations only, so they are the same on every platform.
class Draws {
 public:
  Draws(uint64_t seed, Purpose purpose, int64_t number)
      : call_{.key = seed, .call = static_cast<uint16_t>(purpose), .step = static_cast<uint64_t>(number)} {}

  uint64_t word() {
    if (used_ == words_.size()) {
      words_ = random_words(call_, block_++);
      used_ = 0;
    }
    const uint64_t word = (uint64_t{words_[used_ + 1]} << 32) | words_[used_];
    used_ += 2;
    return word;
  }
  // Uniform in [0, n), but for less than n / 2^64.
  int64_t below(int64_t n) {
    return static_cast<int64_t>((static_cast<unsigned __int128>(word()) * static_cast<uint64_t>(n)) >> 64);
  }
  double uniform() { return static_cast<double>(word() >> 11) * 0x1p-53; }  // in [0, 1)
  double normal();                                                          // mean 0, variance 1

 private:
  RandomCall call_;
  uint64_t block_ = 0;
  std::array<uint32_t, 4> words_ = {};
  size_t used_ = 4;
};

}  // namespace mahia::train::synthetic
