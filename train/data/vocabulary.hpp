// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mahia::train {

// The characters that a model reads and writes, one token each. Tokens from characters.size() on stand for none.
struct Vocabulary {
  std::string unit;                   // what a character is called: "byte"
  std::string characters;             // those of the tokens 0, 1, ...
  int64_t size;                       // V, all tokens
  std::array<int16_t, 256> token_of;  // of each byte; -1: none

  // Throws ValueError naming the byte that has no token, and its place.
  std::vector<int64_t> encode(std::string_view text) const;
};

// Every byte is its own token.
const Vocabulary& byte_vocabulary();

// Upper and lower case, U as T, the codes of IUPAC for several nucleotides as N.
enum DnaToken : uint8_t { dna_a, dna_c, dna_g, dna_t, dna_n, dna_separator, dna_padding, dna_mask, dna_tokens };
const Vocabulary& dna_vocabulary();

}  // namespace mahia::train
