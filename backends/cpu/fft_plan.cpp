// SPDX-License-Identifier: Apache-2.0
#include "backends/cpu/fft_plan.hpp"

#include <array>
#include <map>
#include <memory>
#include <mutex>

#include "backends/cpu/fft_unit.hpp"

namespace mahia::cpu {
namespace {

// The root of a node of the tree, r = exp(-2 pi i turn / den).
struct Node {
  int64_t turn, den;

  // The k-th root of s^radix = r, in the order of Butterfly.
  Node child(int radix, int k) const {
    static constexpr int turns_of_8[8] = {0, 4, 2, 6, 1, 5, 3, 7}, turns_of_4[4] = {0, 2, 1, 3};
    const int turns = radix == 8 ? turns_of_8[k] : radix == 4 ? turns_of_4[k] : k;
    return {turn + turns * den, den * radix};
  }

  // The twiddles of Butterfly<radix>, for s the first child.
  std::vector<UnitNumber> twiddles(int radix) const {
    const auto power = [&](int64_t p) { return unit_number(p * turn, den * radix); };
    if (radix == 8) return {power(4), power(2), power(1), unit_number(8 * turn + den * radix, 8 * den * radix)};
    if (radix == 4) return {power(2), power(1)};
    std::vector<UnitNumber> powers;
    for (int p = 1; p < radix; ++p) powers.push_back(power(p));
    return powers;
  }
};

// Fours and at most one 8 or 2, then the odd factors. The root reads and writes rows: its radix is 4, or 1.
std::vector<int> radices_of(int64_t n) {
  int twos = 0;
  for (; n % 2 == 0; n /= 2) ++twos;
  const int odd_two = twos % 2 == 0 ? 0 : twos == 3 || twos == 1 ? 1 : 3;
  std::vector<int> radices;
  for (int left = twos - odd_two; left >= 2; left -= 2) radices.push_back(4);
  if (radices.empty()) radices.push_back(1);
  if (odd_two > 0) radices.push_back(odd_two == 1 ? 2 : 8);
  for (const int odd : {3, 5}) {
    for (; n % odd == 0; n /= odd) radices.push_back(odd);
  }
  return radices;
}

template <class T>
FftPass<T> make_pass(const std::vector<Node>& nodes, int radix, int64_t leg) {
  FftPass<T> pass{radix, leg, {}};
  for (const Node& node : nodes) {
    for (const UnitNumber& t : node.twiddles(radix)) pass.twiddles.insert(pass.twiddles.end(), {T(t.re), T(t.im)});
  }
  return pass;
}

std::vector<Node> children_of(const std::vector<Node>& nodes, int radix) {
  std::vector<Node> children;
  children.reserve(nodes.size() * static_cast<size_t>(radix));
  for (const Node& node : nodes) {
    for (int k = 0; k < radix; ++k) children.push_back(node.child(radix, k));
  }
  return children;
}

template <class T>
FftBlock<T> make_block(const Node& node) {
  constexpr int width = FftBlock<T>::width;
  FftBlock<T> block;
  size_t at = 0;
  for (const UnitNumber& t : node.twiddles(width)) {
    block.across[at++] = T(t.re);
    block.across[at++] = T(t.im);
  }
  for (int lane = 0; lane < width; ++lane) {
    Complex<T>* to = block.lanes;
    for (const UnitNumber& t : node.child(width, lane).twiddles(width)) {
      to->re[lane] = T(t.re);
      to++->im[lane] = T(t.im);
    }
  }
  return block;
}

}  // namespace

template <class T>
FftPlan<T>::FftPlan(int64_t n, Roots roots) : size(n) {
  constexpr int width = FftBlock<T>::width;
  std::vector<Node> nodes = {roots == Roots::of_one ? Node{0, 1} : Node{1, 4}};
  int64_t leg = n / width;
  for (const int radix : radices_of(n / (width * width))) {
    leg /= radix;
    passes.push_back(make_pass<T>(nodes, radix, leg));
    nodes = children_of(nodes, radix);
  }
  blocks.reserve(nodes.size());
  for (const Node& node : nodes) blocks.push_back(make_block<T>(node));
  if (roots != Roots::of_one) return;
  order.reserve(static_cast<size_t>(n));
  for (const Node& node : nodes) {
    for (int k = 0; k < width; ++k) {
      for (int lane = 0; lane < width; ++lane) order.push_back(node.child(width, lane).child(width, k).turn);
    }
  }
}

int64_t fft_size(int64_t n) {
  constexpr int64_t block = 64;
  int64_t best = block;
  while (best < n) best *= 2;
  for (int64_t fives = block; fives < best; fives *= 5) {
    for (int64_t odd = fives; odd < best; odd *= 3) {
      int64_t size = odd;
      while (size < n) size *= 2;
      best = size < best ? size : best;
    }
  }
  return best;
}

template <class T>
const FftPlan<T>& fft_plan(int64_t size, typename FftPlan<T>::Roots roots) {
  static std::mutex mutex;
  static std::map<std::pair<int64_t, typename FftPlan<T>::Roots>, std::unique_ptr<const FftPlan<T>>> plans;
  const std::scoped_lock lock(mutex);
  std::unique_ptr<const FftPlan<T>>& plan = plans[{size, roots}];
  if (!plan) plan = std::make_unique<const FftPlan<T>>(size, roots);
  return *plan;
}

template struct FftPlan<float>;
template struct FftPlan<double>;
template const FftPlan<float>& fft_plan<float>(int64_t, FftPlan<float>::Roots);
template const FftPlan<double>& fft_plan<double>(int64_t, FftPlan<double>::Roots);

}  // namespace mahia::cpu
