// SPDX-License-Identifier: Apache-2.0
#include "train/data/vocabulary.hpp"

#include <cctype>

#include "core/error.hpp"

namespace mahia::train {
namespace {

Vocabulary make_bytes() {
  Vocabulary v{.unit = "byte", .characters = std::string(256, '\0'), .size = 256, .token_of = {}};
  for (size_t i = 0; i < 256; ++i) {
    v.characters[i] = static_cast<char>(i);
    v.token_of[i] = static_cast<int16_t>(i);
  }
  return v;
}

Vocabulary make_dna() {
  Vocabulary v{.unit = "base", .characters = "ACGTN", .size = dna_tokens, .token_of = {}};
  v.token_of.fill(-1);
  const auto add = [&](std::string_view letters, DnaToken token) {
    for (const char letter : letters) {
      for (const int c : {static_cast<int>(letter), std::tolower(letter)}) v.token_of[static_cast<size_t>(c)] = token;
    }
  };
  add("A", dna_a);
  add("C", dna_c);
  add("G", dna_g);
  add("TU", dna_t);
  add("NRYKMSWBDHV", dna_n);
  return v;
}

}  // namespace

std::vector<int64_t> Vocabulary::encode(std::string_view text) const {
  std::vector<int64_t> tokens;
  for (const char c : text) {
    const int64_t token = token_of[static_cast<unsigned char>(c)];
    check<ValueError>(token >= 0, "`", std::string(1, c), "` at place ", static_cast<int64_t>(tokens.size()), " is no ",
                      unit);
    tokens.push_back(token);
  }
  return tokens;
}

const Vocabulary& byte_vocabulary() {
  static const Vocabulary vocabulary = make_bytes();
  return vocabulary;
}

const Vocabulary& dna_vocabulary() {
  static const Vocabulary vocabulary = make_dna();
  return vocabulary;
}

}  // namespace mahia::train
