// SPDX-License-Identifier: Apache-2.0
#include "train/data/synthetic/draws.hpp"

namespace mahia::train::synthetic {
namespace {

// True with probability exp(-a), 0 <= a <= 1: the first descent of a > u1 > u2 > ... that fails is an even one
// (von Neumann 1951).
bool happens(Draws& draws, double a) {
  for (bool even = true;; even = !even) {
    const double u = draws.uniform();
    if (!(u < a)) return even;
    a = u;
  }
}

bool all_happen(Draws& draws, double a, int64_t times) {
  while (times > 0 && happens(draws, a)) --times;
  return times == 0;
}

}  // namespace

// Exactly normal by comparisons alone (Karney, "Sampling exactly from the normal distribution", 2016): integer part k,
// then fraction x, each accepted with the probability that the density asks for.
double Draws::normal() {
  for (;;) {
    int64_t k = 0;
    while (happens(*this, 0.5)) ++k;
    if (!all_happen(*this, 0.5, k * (k - 1))) continue;
    const double x = uniform(), whole = static_cast<double>(k);
    if (!all_happen(*this, x * (2 * whole + x) / (2 * whole + 2), k + 1)) continue;
    return below(2) == 0 ? whole + x : -(whole + x);
  }
}

}  // namespace mahia::train::synthetic
