// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/check.hpp"
#include "backends/cuda/fft_roots.cuh"
#include "backends/cuda/runtime.hpp"

namespace mahia::cuda {
namespace {

struct Tree {
  FftRootPair pairs[fft_pair_index(fft_depths, 0, 0)];
};

constexpr Complex root_of(int depth, int node, int level, int turns) {
  const int64_t quarters_of_turn = 4 * (reversed_bits(node, depth) + (int64_t{turns} << depth)) + 1;
  return unit_root(quarters_of_turn, int64_t{4} << (depth + level + 1));
}

constexpr Tree make_tree() {
  Tree tree{};
  for (int depth = 0; depth < fft_depths; ++depth) {
    for (int node = 0; node < 1 << depth; ++node) {
      for (int level = 0; level < 4; ++level) {
        for (int turns = 0; turns < (level == 0 ? 1 : 1 << (level - 1)); ++turns) {
          const int i = fft_root_index(level, turns);
          tree.pairs[fft_pair_index(depth, node, i / 2)].root[i % 2] = root_of(depth, node, level, turns);
        }
      }
    }
  }
  return tree;
}

__device__ constexpr Tree tree = make_tree();

}  // namespace

const FftRootPair* fft_roots(Device device) {
  stream_of(device);  // makes it the current one
  void* pairs = nullptr;
  check_cuda(cudaGetSymbolAddress(&pairs, tree), "cudaGetSymbolAddress");
  return static_cast<const FftRootPair*>(pairs);
}

}  // namespace mahia::cuda
