// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "tests/support/op_spec.hpp"

namespace mahia::tests {

// For references of ops that move elements: a place is one index per axis.
Shape place_of(const Shape& shape, int64_t index);  // of the element with this row-major index
int64_t index_of(const Shape& shape, const Shape& place);
int axis_of(int64_t axis, int rank);  // counted from the left

// y of `shape` with y[place] = x[from(place)].
Array picked(const Array& x, const Shape& shape, const std::function<Shape(const Shape& place)>& from);

// The cases and, for each with two axes or more somewhere, the same on operands whose axes lie in memory in reverse.
std::vector<OpCase> and_with_reversed_axes(std::vector<OpCase> cases);

}  // namespace mahia::tests
