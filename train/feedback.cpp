// SPDX-License-Identifier: Apache-2.0
#include "train/feedback.hpp"

#include <cmath>
#include <limits>

#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/binary.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"

namespace mahia::train {
namespace {

Tensor limited(const Tensor& change, double most) { return most > 0 ? clamp(change, -most, most) : change; }

// value factor^sign(error)
Tensor sign_rule(const Feedback& f, const Tensor& value, const Tensor& error) {
  const Tensor up = value * f.factor, down = value / f.factor;
  return clamp(where(gt(error, 0), up, where(lt(error, 0), down, value)), f.low, f.high);
}

Tensor dual_ascent(const Feedback& f, const Tensor& value, const Tensor& error) {
  return clamp(value + limited(error * f.gain, f.rate_limit), f.low, f.high);
}

// ln value = ln peak + gain error + integral, as far as the limits let it come in one step. The integral stands still
// while they hold the value back from where the error drives it, so that it winds up nothing.
FeedbackState pi_rule(const Feedback& f, double peak, const FeedbackState& now, const Tensor& error) {
  const double start = std::log(peak);
  const Tensor integral = now.integral + error * f.integral_gain;
  const Tensor last = log(now.value) - start, change = integral + error * f.gain - last;
  const Tensor allowed = limited(change, f.rate_limit), next = last + allowed;
  const Tensor reached = clamp(next, std::log(f.low) - start, std::log(f.high) - start);
  // Differences of what a limit left alone are exactly 0.
  const Tensor is_held = gt(((change - allowed) + (next - reached)) * error, 0);
  // Once more in [low, high]: exp rounds.
  return {clamp(exp(reached + start), f.low, f.high), {}, where(is_held, now.integral, integral)};
}

}  // namespace

FeedbackState feedback_start(const Schedule& s, Device device) {
  const Shape shape = s.feedback.per_layer ? Shape{static_cast<int64_t>(s.layers.size())} : Shape{};
  const auto all = [&](double value) { return full(shape, value, DType::f64, device); };
  return {all(s.peak), all(0), all(0)};
}

FeedbackState feedback_next(const Schedule& s, const Tensor& step, const FeedbackState& now, const Tensor& measured) {
  const NoGrad no_grad;
  const Feedback& f = s.feedback;
  const Tensor m = f.per_layer ? measured : mean(measured);
  check<ShapeError>(m.shape() == now.ema.shape(), "feedback: a loop for each of ", now.ema.numel(),
                    " layers got an imbalance for each of ", m.numel());
  FeedbackState next = now;
  next.ema = where(le(step, 1), m, now.ema * f.smoothing + m * (1 - f.smoothing));
  Tensor error = next.ema - f.target;
  if (f.dead_band > 0) error = where(le(abs(error), f.dead_band), zeros_like(error), error);
  if (s.kind == ScheduleKind::pi) {
    const FeedbackState moved = pi_rule(f, s.peak, now, error);
    next.value = moved.value;
    next.integral = moved.integral;
  } else {
    next.value = s.kind == ScheduleKind::sign ? sign_rule(f, now.value, error) : dual_ascent(f, now.value, error);
  }
  const Tensor acts = gt(step, static_cast<double>(s.hold));
  next.value = where(acts, next.value, now.value);
  next.integral = where(acts, next.integral, now.integral);
  return next;
}

void commit(const FeedbackState& from, const FeedbackState& to) {
  mahia::commit(from.value, to.value);
  mahia::commit(from.ema, to.ema);
  mahia::commit(from.integral, to.integral);
}

nn::NamedTensors named(const FeedbackState& s, const std::string& prefix) {
  return {{prefix + ".value", s.value}, {prefix + ".ema", s.ema}, {prefix + ".integral", s.integral}};
}

}  // namespace mahia::train
