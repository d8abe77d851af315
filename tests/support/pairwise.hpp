// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

namespace mahia::tests {

// Settings in which every two factors meet at every two of their levels: far fewer than all combinations. Factor i has
// levels[i] levels; each row holds one level per factor. The same rows each time.
std::vector<std::vector<size_t>> pairwise_rows(const std::vector<size_t>& levels);

}  // namespace mahia::tests
