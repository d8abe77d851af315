// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/tensor.hpp"

namespace mahia::tests {

// A small dense f64 array on the host: what references compute with.
struct Array {
  Shape shape;
  std::vector<double> values;  // row-major

  Array() = default;
  explicit Array(const Shape& s) : shape(s), values(static_cast<size_t>(numel(s))) {}
  double& operator[](int64_t i) { return values[static_cast<size_t>(i)]; }
  double operator[](int64_t i) const { return values[static_cast<size_t>(i)]; }
  int64_t size() const { return static_cast<int64_t>(values.size()); }
};
using Arrays = std::vector<Array>;

// One operand: uniform numbers in [low, high), or integers in it when `dtype` is an integer or boolean type.
struct Input {
  Shape shape;
  double low = -2, high = 2;
  DType dtype = DType::f64;  // a floating dtype stands for the dtype under test
  bool differentiable = true;
};
inline Input indices(const Shape& shape, int64_t high) {
  return {shape, 0, static_cast<double>(high), DType::i64, false};
}

struct OpCase {
  std::string name;
  std::vector<Input> inputs;
  std::function<Tensors(const Tensors&)> call;
  std::function<Arrays(const Arrays&)> reference;  // in f64, from the inputs as rounded to the dtype under test
};

struct Tolerance {
  double rtol, atol;
};
Tolerance tolerance_of(DType dtype);  // the one table

struct OpSpecOptions {
  std::vector<DType> dtypes = {DType::f64, DType::f32, DType::bf16};
  bool gradient = true;               // false for ops without a backward
  double f32_rtol = 0, f32_atol = 0;  // replaces the table's entry where an op keeps more, or states why less
  double bf16_rtol = 0, bf16_atol = 0;
  // More cases for the comparison of devices alone: larger shapes, blocks and their remainders. No reference needed.
  std::function<std::vector<OpCase>()> device_cases = {};
};

// One op's specification, run as the suite `name`: values against the reference for every dtype with contiguous and
// strided inputs, gradients against central differences in f64 (two draws, both layouts), the same bits with 1, 2, 3
// and 7 threads; with `--device cuda`, values and gradients there against those of the CPU. Cases must include a size
// of zero, a size of one, and five cases at least.
class OpSpec {
 public:
  OpSpec(const char* name, std::function<std::vector<OpCase>()> cases, OpSpecOptions options = {});
};

// Every registered spec's cases run once, with their gradients, in the spec's first dtype: for tests that count kernel
// calls.
void run_every_spec_once();

// Random values for one operand; `draw` changes them. Strided: every second element of a larger buffer.
Tensor make_input(const Input& input, DType dtype, uint64_t draw, bool strided);
Array to_array(const Tensor& x);
// Reports every element that is further from `expected` than atol + rtol |expected|.
void check_close(const Tensor& actual, const Array& expected, Tolerance tolerance);
void check_same_bits(const Tensor& a, const Tensor& b);
// Runs fn, which must throw E; the message must contain `text`.
template <class E, class Fn>
void check_throws(Fn&& fn, const std::string& text);
void report_error_text(bool thrown, const std::string& message, const std::string& text);

template <class E, class Fn>
void check_throws(Fn&& fn, const std::string& text) {
  try {
    fn();
    report_error_text(false, "", text);
  } catch (const E& error) {
    report_error_text(true, error.what(), text);
  }
}

}  // namespace mahia::tests
