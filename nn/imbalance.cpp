// SPDX-License-Identifier: Apache-2.0
#include "nn/imbalance.hpp"

#include <cmath>
#include <limits>

#include "autograd/grad_mode.hpp"
#include "core/factory.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/compare.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"

namespace mahia::nn {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// f (L, E) -> (L)
Tensor unevenness(Imbalance metric, const Tensor& f) {
  const auto experts = static_cast<double>(f.size(1));
  switch (metric) {
    case Imbalance::max_violation:
      return amax(f, {1}) * experts - 1;
    case Imbalance::variation:
      return sqrt(var(f, {1}, 0)) * experts;
    default: {
      constexpr double tiny = 1e-300;  // log 0 is multiplied by 0
      return experts > 1 ? 1 + sum(f * log(clamp(f, tiny, 1)), {1}) / std::log(experts) : sum(f, {1}) * 0.0;
    }
  }
}

}  // namespace

Tensor imbalance(Imbalance metric, const Tensor& counts, const Tensor& kept) {
  check<ShapeError>(counts.rank() == 2 && counts.size(1) >= 1, "imbalance: needs counts (L, E), got ", counts);
  check<ValueError>(metric != Imbalance::drop_rate || kept.defined(),
                    "imbalance: the drop rate is known only where the experts have a capacity");
  const NoGrad no_grad;
  const Tensor n = to(counts, DType::f64), total = sum(n, {1}, true), some = clamp(total, 1, infinity);
  Tensor value;
  if (metric == Imbalance::drop_rate) {
    check<ShapeError>(kept.shape() == counts.shape(), "imbalance: counts and kept (L, E) disagree: counts ", counts,
                      ", kept ", kept);
    value = 1 - sum(to(kept, DType::f64) / some, {1});
  } else {
    value = unevenness(metric, n / some);
  }
  return where(gt(sum(n, {1}), 0), value, zeros({}, DType::f64, counts.device()));
}

}  // namespace mahia::nn
