// SPDX-License-Identifier: Apache-2.0
#include "ops/cross_entropy.hpp"

#include <cmath>

#include "backends/cpu/exp.hpp"
#include "backends/cpu/rows.hpp"

namespace mahia::cpu {
namespace {

void cross_entropy_factor(ConstView targets, const CrossEntropyOptions& options, int64_t classes, View factor) {
  const auto* target = targets.data<int64_t>();
  int64_t count = 0;
  for (int64_t i = 0; i < targets.numel(); ++i) {
    if (target[i] == options.ignore_index) continue;
    check<IndexError>(target[i] >= 0 && target[i] < classes, "cross_entropy: target ", i, " is ", target[i],
                      ", must be in [0, ", classes, ") or the ignored ", options.ignore_index);
    ++count;
  }
  visit_float(factor.dtype(), [&]<class S>() {
    *factor.data<S>() = convert<S>(options.reduction == Reduction::mean ? 1 / static_cast<double>(count) : 1.0);
  });
}

// log_total is the logarithm of the sum of exp(x - top).
template <class S, class X>
S loss_of_row(const Row<const X>& x, S top, S log_total, int64_t target, S smoothing) {
  const S plain = log_total - (convert<S>(x.data()[target]) - top);
  if (smoothing == 0) return plain;
  const S below = sum_row<S>(x.length(), [&](int64_t i) { return x.load(i) - top; });
  return (1 - smoothing) * plain + smoothing * (log_total - below / static_cast<S>(x.length()));
}

void cross_entropy(ConstView logits, ConstView targets, const CrossEntropyOptions& options, View losses, View stats) {
  visit_float(logits.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    for_rows(logits, [&](int64_t row) {
      const Row<const X> x = row_of<X>(logits, row);
      const int64_t target = targets.data<int64_t>()[row];
      const S top = max_row(x);
      const S total = sum_row<S>(x.length(), [&](int64_t i) { return exp(x.load(i) - top); });
      stats.data<S>()[2 * row] = top;
      stats.data<S>()[2 * row + 1] = total;
      losses.data<S>()[row] = target == options.ignore_index ? S(0)
                                                             : loss_of_row(x, top, std::log(total), target,
                                                                           static_cast<S>(options.label_smoothing));
    });
  });
}

void cross_entropy_total(ConstView losses, ConstView factor, View y) {
  visit_float(losses.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    const Row<const X> each(losses.data<X>(), losses.numel());
    const S total = sum_row<S>(each.length(), [&](int64_t i) { return each.load(i); });
    *y.data<X>() = convert<X>(total * convert<S>(*factor.data<X>()));
  });
}

// dx = scale (softmax(x) - (1 - smoothing) [the target] - smoothing / V)
template <class S, class X>
void write_gradient(const Row<const X>& x, S top, S total, int64_t target, S smoothing, S scale, const Row<X>& dx) {
  const S spread = smoothing / static_cast<S>(x.length());
  const auto slope = [&](Vec<S> v) { return exp(v - top) / total - spread; };
  for (int64_t i = 0; i < x.length(); i += lane_count<S>) dx.store(i, slope(x.load(i)) * scale);
  const S at_target = slope(Lanes<S>::all(convert<S>(x.data()[target])))[0];
  dx.data()[target] = convert<X>((at_target - (1 - smoothing)) * scale);
}

void cross_entropy_grad(ConstView logits, ConstView targets, ConstView stats, ConstView factor, ConstView dy,
                        const CrossEntropyOptions& options, View dlogits) {
  visit_float(logits.dtype(), [&]<class X>() {
    using S = compute_t<X>;
    const bool per_row = options.reduction == Reduction::none;
    for_rows(logits, [&](int64_t row) {
      const Row<X> dx = row_of<X>(dlogits, row);
      const int64_t target = targets.data<int64_t>()[row];
      if (target == options.ignore_index) {
        std::fill_n(dx.data(), dx.length(), X(0.0f));
        return;
      }
      const S upstream = dy.defined() ? dy.data<S>()[per_row ? row : 0] : S(1);
      const S* kept = stats.data<S>() + 2 * row;
      write_gradient(row_of<X>(logits, row), kept[0], kept[1], target, static_cast<S>(options.label_smoothing),
                     upstream * *factor.data<S>(), dx);
    });
  });
}

const Registered registered_cross_entropy_factor(DeviceType::cpu, kernels::cross_entropy_factor, cross_entropy_factor);
const Registered registered_cross_entropy(DeviceType::cpu, kernels::cross_entropy, cross_entropy);
const Registered registered_cross_entropy_total(DeviceType::cpu, kernels::cross_entropy_total, cross_entropy_total);
const Registered registered_cross_entropy_grad(DeviceType::cpu, kernels::cross_entropy_grad, cross_entropy_grad);

}  // namespace
}  // namespace mahia::cpu
