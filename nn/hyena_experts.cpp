// SPDX-License-Identifier: Apache-2.0
#include "nn/hyena_experts.hpp"

#include "autograd/grad_mode.hpp"
#include "core/factory.hpp"
#include "nn/hyena_signal.hpp"
#include "nn/init.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/compare.hpp"
#include "ops/cumsum.hpp"
#include "ops/grouped_mm.hpp"
#include "ops/index.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"

namespace mahia::nn {
namespace {

const HyenaExpertsConfig& checked(const HyenaExpertsConfig& c) {
  check<ValueError>(c.width >= 1 && c.num_experts >= 1 && c.order >= 2 && c.short_filter >= 1, "HyenaExperts: width ",
                    c.width, ", num_experts ", c.num_experts, " and short_filter ", c.short_filter,
                    " must be at least 1 and order ", c.order, " at least 2");
  return c;
}

HyenaFilterConfig filter_config(const HyenaExpertsConfig& c) {
  HyenaFilterConfig f = c.filter;
  f.l_max = c.l_max;
  f.channels = c.num_experts * c.width;
  f.order = c.order;
  return f;
}

int64_t channels(const HyenaExpertsConfig& c) { return (c.order + 1) * c.width; }

// 0, 1, ..., n - 1, made on the device.
Tensor numbers(int64_t n, Device device) { return cumsum(ones({n}, DType::i64, device), 0) - 1.0; }

// i64 floor(x / n) for x >= 0.
Tensor divided(const Tensor& x, int64_t n) {
  return mahia::to(mahia::to(x, DType::f64) / static_cast<double>(n), DType::i64);
}

// Where the plan's rows stand among the E B T places of the experts' sequences, and back.
struct Places {
  Tensor place;  // i64 (R): of a row; 0 for one without a pair
  MoePlan plan;  // its `place` (E B T, 1): the row at each place, -1 for none
};

Places places_of(const MoePlan& plan, int64_t sequences, ExpertSequence mode) {
  const NoGrad no_grad;
  const Device device = plan.order.device();
  const int64_t rows = plan.order.numel(), experts = plan.counts.numel(), time = plan.tokens / sequences;
  const int64_t all = experts * plan.tokens;
  const Tensor row = numbers(rows, device), order = mahia::to(plan.order, DType::i64);
  const Tensor there = ge(order, 0);
  const Tensor ends = unsqueeze(mahia::to(narrow(plan.offsets, 0, 1, experts), DType::i64), 0);  // (1, E)
  const Tensor expert = sum(ge(unsqueeze(row, 1), ends), {1});                                   // (R)
  const Tensor token = divided(where(there, order, 0 * order), plan.choices);
  Tensor place = expert * static_cast<double>(plan.tokens) + token;
  if (mode == ExpertSequence::packed) {
    // Rows of one expert and sequence stand together: their number counts from the first of them.
    const Tensor whole = expert * static_cast<double>(sequences) + divided(token, time);
    const Tensor group = where(there, whole, full({}, static_cast<double>(experts * sequences), DType::i64, device));
    const MoePlan groups = moe_plan(unsqueeze(group, 1), experts * sequences + 1);
    place = whole * static_cast<double>(time) + row - mahia::to(index_select(groups.offsets, 0, group), DType::i64);
  }
  // Row i + 1 is added at its place to 0, and -1 is what remains elsewhere; exact in f64.
  const Tensor target = where(there, place, full({}, static_cast<double>(all), DType::i64, device));
  const Tensor found = index_add(zeros({all + 1}, DType::f64, device), 0, target, mahia::to(row, DType::f64) + 1.0);
  MoePlan back = plan;
  back.place = mahia::to(narrow(found, 0, 0, all) - 1.0, DType::i32);
  back.tokens = all;
  back.choices = 1;
  back.whole = false;
  return {where(there, place, 0 * place), back};
}

}  // namespace

HyenaExperts::HyenaExperts(const HyenaExpertsConfig& c)
    : config_(checked(c)),
      short_filter_(add<Conv1d>("short_filter", c.num_experts * channels(c), c.num_experts * channels(c),
                                c.short_filter,
                                Conv1dOptions{.padding = Padding::causal, .groups = c.num_experts * channels(c)})),
      filter_fn_(add<HyenaFilter>("filter_fn", filter_config(c))) {
  const auto stack = [&](const char* name, Shape shape) {
    return parameter(name, init::fan_in_uniform(shape, c.width, init_call(name)));
  };
  w_in_ = stack("w_in", {c.num_experts, channels(c), c.width});
  b_in_ = stack("b_in", {c.num_experts, channels(c)});
  w_out_ = stack("w_out", {c.num_experts, c.width, c.width});
  b_out_ = stack("b_out", {c.num_experts, c.width});
}

Tensor HyenaExperts::operator()(const Tensor& tokens, const MoePlan& plan, int64_t sequences) const {
  const int64_t experts = config_.num_experts, width = config_.width;
  const Tensor own = moe_dispatch(tokens, plan);  // (R, D)
  if (own.size(0) == 0) return grouped_mm(own, w_out_, plan.offsets, b_out_);
  const int64_t time = plan.tokens / sequences;
  const Places places = places_of(plan, sequences, config_.sequence);
  const Tensor z = grouped_mm(own, w_in_, plan.offsets, b_in_);  // (R, (N+1) D)
  const Tensor all = moe_combine(z, ones({places.plan.tokens, 1}, DType::f32, z.device()), places.plan);
  const Tensor signals = permute(reshape(all, {experts, sequences, time, channels(config_)}), {0, 3, 1, 2});
  const Tensor there = reshape(ge(places.plan.place, 0), {experts, sequences, time});
  const Tensor y = recurrence(reshape(signals, {experts * channels(config_), sequences, time}), there);
  const Tensor by_place = permute(reshape(y, {experts, width, sequences, time}), {0, 2, 3, 1});
  const Tensor rows = index_select(reshape(by_place, {places.plan.tokens, width}), 0, places.place);  // (R, D)
  return grouped_mm(rows, w_out_, plan.offsets, b_out_);
}

Tensor HyenaExperts::recurrence(const Tensor& z, const Tensor& there) const {
  const int64_t experts = config_.num_experts, order = config_.order, batch = z.size(1), time = z.size(2);
  const Tensor local = transpose(short_filter_(transpose(z, 0, 1)), 0, 1);  // (E (N+1) D, B, T)
  const Tensor x = kept(reshape(local, {experts, order + 1, config_.width, batch, time}),
                        reshape(there, {experts, 1, 1, batch, time}));
  const auto signal = [&](int64_t n) { return reshape(select(x, 1, n), {experts * config_.width, batch, time}); };
  const Tensor filters = filter_fn_(time);  // (E D, N-1, T)
  Tensor v = signal(order);
  for (int64_t o = 0; o < order - 1; ++o) {
    const bool is_last = o == order - 2;
    v = long_conv_channel_first(v, select(filters, 1, o),
                                {.skip = filter_fn_.skip(o),
                                 .gate_before = signal(order - 1 - o),
                                 .gate_after = is_last ? signal(0) : Tensor(),
                                 .algorithm = config_.algorithm});
  }
  return v;
}

std::string HyenaExperts::summary() const {
  return message(config_.num_experts, " x hyena of width ", config_.width, ", order ", config_.order,
                 config_.sequence == ExpertSequence::masked ? ", masked" : ", packed");
}

}  // namespace mahia::nn
