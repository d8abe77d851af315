// SPDX-License-Identifier: Apache-2.0
#include "ops/long_conv_state.hpp"

#include <boost/test/unit_test.hpp>

#include "core/copy.hpp"
#include "core/counters.hpp"
#include "core/factory.hpp"
#include "core/parallel.hpp"
#include "ops/cat.hpp"
#include "ops/shape.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

// u, gate before, gate after (B, D, T); h (D, K); skip (D).
struct Operands {
  Tensor u, before, after, h, skip;

  Operands(int64_t batch, int64_t channels, int64_t time, int64_t taps, DType dtype = DType::f32)
      : u(make_input({{batch, channels, time}}, dtype, 1, false)),
        before(make_input({{batch, channels, time}}, dtype, 2, false)),
        after(make_input({{batch, channels, time}}, dtype, 3, false)),
        h(make_input({{channels, taps}}, dtype, 4, false)),
        skip(make_input({{channels}}, dtype, 5, false)) {}
};

Tensor whole(const Operands& o) {
  return long_conv(
      o.u, o.h, {.skip = o.skip, .gate_before = o.before, .gate_after = o.after, .algorithm = ConvAlgorithm::dyadic});
}

// The first `prefilled` positions at once, the others one by one.
Tensor in_steps(const Operands& o, int64_t prefilled, int64_t longest) {
  const int64_t time = o.u.size(2);
  LongConvState state(o.h, o.skip, o.u.size(0), longest, o.u.dtype());
  const auto first = [&](const Tensor& x) { return narrow(x, 2, 0, prefilled); };
  Tensors parts;
  if (prefilled > 0) parts.push_back(state.prefill(first(o.u), first(o.before), first(o.after)));
  for (int64_t t = prefilled; t < time; ++t) {
    const auto now = [&](const Tensor& x) { return select(x, 2, t); };
    parts.push_back(unsqueeze(state.step(now(o.u), now(o.before), now(o.after)), 2));
  }
  BOOST_TEST(state.position() == time);
  return cat(parts, 2);
}

BOOST_AUTO_TEST_SUITE(long_conv_state)

BOOST_AUTO_TEST_CASE(prefill_and_steps_give_the_bits_of_the_whole) {
  for (const int64_t time : {1, 63, 64, 65, 130, 300}) {
    for (const int64_t taps : {int64_t{1}, int64_t{40}, int64_t{100}, time}) {
      const Operands o(2, 3, time, taps);
      const Tensor y = whole(o);
      for (const int64_t prefilled : {int64_t{0}, int64_t{1}, time / 3, time / 2, std::min<int64_t>(time, 64), time}) {
        BOOST_TEST_CONTEXT("time " << time << ", taps " << taps << ", prefilled " << prefilled) {
          check_same_bits(in_steps(o, prefilled, time), y);
          check_same_bits(in_steps(o, prefilled, 2 * time + 77), y);
        }
      }
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
