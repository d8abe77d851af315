// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/device.hpp"
#include "ops/long_conv.hpp"

namespace mahia::cuda {

// The tiles of DyadicTiling over contiguous rows: row r belongs to channel r % channels. A tile of n inputs is one
// complex transform of length n in and one out, modulo z^n + i as in backends/cpu/dyadic.hpp; its bits depend on its
// inputs and its filter alone. The smallest tiles and the blocks on the diagonal are direct sums.
// `filter` has 4 largest() numbers for each channel: the first 2 base taps, and from 2 n on what the transforms of
// tiles of n inputs are multiplied with. `transposed`: gradients go from outputs back to inputs.
template <class T>
struct DyadicRows {
  Device device;
  DyadicTiling tiling;
  const T* filter;
  int64_t count, channels, length;
  bool transposed = false;
};

// Fills `filter` from h (channels, taps); skip (channels), or null, is added to the first tap.
template <class T>
void prepare_dyadic(Device device, DyadicTiling tiling, int64_t channels, const T* h, const T* skip, T* filter);

// Adds all tiles at positions below `end`, the largest first.
template <class T>
void add_tiles(const DyadicRows<T>& rows, const T* in, T* out, int64_t end);

// Adds the tile at `position`.
template <class T>
void add_tile(const DyadicRows<T>& rows, const T* in, T* out, int64_t position);

// Adds what each block owes to itself, up to `end`; a row has whole blocks up to `length`.
template <class T>
void add_blocks(const DyadicRows<T>& rows, const T* in, T* out, int64_t end);

}  // namespace mahia::cuda
