// SPDX-License-Identifier: Apache-2.0
#include "tests/support/pairwise.hpp"

#include <array>
#include <set>

namespace mahia::tests {
namespace {

using Pair = std::array<size_t, 4>;  // factor, level, larger factor, level

Pair pair_of(size_t a, size_t level_of_a, size_t b, size_t level_of_b) {
  return a < b ? Pair{a, level_of_a, b, level_of_b} : Pair{b, level_of_b, a, level_of_a};
}

std::set<Pair> all_pairs(const std::vector<size_t>& levels) {
  std::set<Pair> pairs;
  for (size_t b = 0; b < levels.size(); ++b) {
    for (size_t a = 0; a < b; ++a) {
      for (size_t i = 0; i < levels[a]; ++i) {
        for (size_t j = 0; j < levels[b]; ++j) pairs.insert({a, i, b, j});
      }
    }
  }
  return pairs;
}

}  // namespace

// Greedy: a row begins with a pair that is still missing; each further factor takes the level that adds most.
std::vector<std::vector<size_t>> pairwise_rows(const std::vector<size_t>& levels) {
  std::set<Pair> missing = all_pairs(levels);
  std::vector<std::vector<size_t>> rows;
  while (!missing.empty()) {
    const Pair first = *missing.begin();
    std::vector<size_t> row(levels.size());
    std::vector<size_t> chosen = {first[0], first[2]};
    row[first[0]] = first[1];
    row[first[2]] = first[3];
    for (size_t f = 0; f < levels.size(); ++f) {
      if (f == first[0] || f == first[2]) continue;
      size_t best = 0, most = 0;
      for (size_t k = 0; k < levels[f]; ++k) {
        const size_t level = (k + rows.size()) % levels[f];  // ties go to another level in each row
        size_t added = 0;
        for (const size_t g : chosen) added += missing.contains(pair_of(f, level, g, row[g])) ? 1 : 0;
        if (k == 0 || added > most) {
          best = level;
          most = added;
        }
      }
      row[f] = best;
      chosen.push_back(f);
    }
    for (const size_t a : chosen) {
      for (const size_t b : chosen) {
        if (a < b) missing.erase(pair_of(a, row[a], b, row[b]));
      }
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace mahia::tests
