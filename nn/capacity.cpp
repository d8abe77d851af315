// SPDX-License-Identifier: Apache-2.0
#include "nn/capacity.hpp"

#include <algorithm>
#include <charconv>
#include <string>

#include "autograd/grad_mode.hpp"
#include "core/factory.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/compare.hpp"
#include "ops/cumsum.hpp"
#include "ops/index.hpp"
#include "ops/moe.hpp"
#include "ops/pointwise.hpp"
#include "ops/shape.hpp"
#include "ops/sort.hpp"

namespace mahia::nn {
namespace {

struct Fraction {
  int64_t numerator = 0, denominator = 1;
};

// The shortest decimal that reads as x, for x in [1e-6, 1e6]: at most 17 digits, 23 of them behind the point.
Fraction decimal_of(double x) {
  char text[64];
  const auto end = std::to_chars(text, text + sizeof(text), x, std::chars_format::scientific).ptr;
  const std::string digits(text, static_cast<size_t>(end - text));  // d.ddde-xx
  const size_t e = digits.find('e');
  int exponent = std::stoi(digits.substr(e + 1));
  Fraction f;
  for (const char c : digits.substr(0, e)) {
    if (c != '.') f.numerator = f.numerator * 10 + (c - '0');
  }
  if (e > 1) exponent -= static_cast<int>(e) - 2;
  for (; exponent > 0; --exponent) f.numerator *= 10;
  for (; exponent < 0 && f.numerator % 10 == 0; ++exponent) f.numerator /= 10;
  check<ValueError>(exponent >= -18, "expert_capacity: the factor ", x, " has more than 18 digits behind the point");
  for (; exponent < 0; ++exponent) f.denominator *= 10;
  return f;
}

}  // namespace

int64_t expert_capacity(double factor, int64_t minimum, int64_t k, int64_t tokens, int64_t num_experts) {
  check<ValueError>(factor == 0 || (factor >= 1e-6 && factor <= 1e6), "expert_capacity: the factor is ", factor,
                    ", must be 0 or in [1e-6, 1e6]");
  check<ValueError>(minimum >= 0, "expert_capacity: the minimum is ", minimum, ", must not be negative");
  if (factor == 0) return k * tokens;
  const Fraction f = decimal_of(factor);
  const auto slots = static_cast<__int128>(f.numerator) * k * tokens;
  const auto share = static_cast<__int128>(f.denominator) * num_experts;
  return std::max(minimum, static_cast<int64_t>((slots + share - 1) / share));
}

Admission admit(const Tensor& indices, const Tensor& scores, int64_t num_experts, int64_t capacity,
                SlotPriority priority) {
  check<ShapeError>(indices.rank() == 2 && indices.shape() == scores.shape(),
                    "admit: indices and scores (N, k) disagree: indices ", indices, ", scores ", scores);
  const NoGrad no_grad;
  const int64_t pairs = indices.numel(), k = indices.size(1);
  Admission a;
  if (priority == SlotPriority::choice_major) {
    const Tensor numbers = cumsum(ones({pairs}, DType::i64, indices.device()), 0) - 1.0;
    a.service = reshape(transpose(reshape(numbers, {indices.size(0), k}), 0, 1), {pairs});
  }
  if (priority == SlotPriority::probability) a.service = argsort(reshape(scores.detach(), {pairs}), 0, true);
  Tensor expert = reshape(indices, {pairs});
  if (a.service.defined()) expert = index_select(expert, 0, a.service);
  const MoePlan plan = moe_plan_with_gaps(reshape(expert, {pairs, 1}), num_experts, pairs);
  const Tensor first = index_select(plan.offsets, 0, maximum(expert, 0 * expert));
  a.kept = le(plan.place - first, static_cast<double>(std::min(capacity, pairs) - 1));
  a.kept = where(lt(expert, 0), zeros_like(a.kept), a.kept);
  if (priority == SlotPriority::choice_major) a.kept = transpose(reshape(a.kept, {k, indices.size(0)}), 0, 1);
  if (priority == SlotPriority::probability) a.kept = index_select(a.kept, 0, argsort(a.service, 0));
  a.kept = reshape(a.kept, indices.shape());
  a.counts = plan.counts;
  return a;
}

}  // namespace mahia::nn
