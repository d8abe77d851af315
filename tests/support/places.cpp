// SPDX-License-Identifier: Apache-2.0
#include "tests/support/places.hpp"

#include <algorithm>

#include "ops/shape.hpp"

namespace mahia::tests {
namespace {

Shape reversed(Shape shape) {
  const Shape from = shape;
  for (int i = 0; i < shape.rank(); ++i) shape[i] = from[shape.rank() - 1 - i];
  return shape;
}

Tensor with_reversed_axes(const Tensor& x) {
  Shape axes = x.shape();
  for (int i = 0; i < axes.rank(); ++i) axes[i] = axes.rank() - 1 - i;
  return permute(x, axes);
}

OpCase on_reversed_axes(const OpCase& c) {
  OpCase r = c;
  r.name += ", axes reversed";
  for (Input& input : r.inputs) input.shape = reversed(input.shape);
  r.call = [call = c.call](const Tensors& xs) {
    Tensors turned;
    for (const Tensor& x : xs) turned.push_back(with_reversed_axes(x));
    return call(turned);
  };
  r.reference = [reference = c.reference](const Arrays& xs) {
    Arrays turned;
    for (const Array& x : xs) turned.push_back(picked(x, reversed(x.shape), reversed));
    return reference(turned);
  };
  return r;
}

}  // namespace

Shape place_of(const Shape& shape, int64_t index) {
  Shape place = shape;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    place[axis] = index % shape[axis];
    index /= shape[axis];
  }
  return place;
}

int64_t index_of(const Shape& shape, const Shape& place) {
  int64_t index = 0;
  for (int axis = 0; axis < shape.rank(); ++axis) index = index * shape[axis] + place[axis];
  return index;
}

int axis_of(int64_t axis, int rank) { return static_cast<int>(axis < 0 ? axis + rank : axis); }

Array picked(const Array& x, const Shape& shape, const std::function<Shape(const Shape& place)>& from) {
  Array y(shape);
  for (int64_t i = 0; i < y.size(); ++i) y[i] = x[index_of(x.shape, from(place_of(shape, i)))];
  return y;
}

std::vector<OpCase> and_with_reversed_axes(std::vector<OpCase> cases) {
  const size_t count = cases.size();
  for (size_t i = 0; i < count; ++i) {
    const auto turns = [](const Input& input) { return input.shape.rank() > 1; };
    if (std::ranges::any_of(cases[i].inputs, turns)) cases.push_back(on_reversed_axes(cases[i]));
  }
  return cases;
}

}  // namespace mahia::tests
