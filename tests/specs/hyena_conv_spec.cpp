// SPDX-License-Identifier: Apache-2.0
#include "ops/hyena_conv.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>

#include "autograd/backward.hpp"
#include "core/copy.hpp"
#include "core/counters.hpp"
#include "core/factory.hpp"
#include "core/parallel.hpp"
#include "core/runtime.hpp"
#include "ops/conv1d.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/convolution.hpp"

namespace mahia::tests {
namespace {

enum class Read { absent, as_it_is, weighted, biased };

struct Recurrence {
  Shape shape;
  int64_t taps;
  Read v, before, after;
  int64_t short_taps = 3;
  bool has_skip = true;
  ConvAlgorithm algorithm = ConvAlgorithm::automatic;
};

std::string name_of(const Recurrence& c) {
  const auto read = [](Read how) { return "-xwb"[static_cast<int>(how)]; };
  return message(c.shape, " taps ", c.taps, " ", read(c.v), read(c.before), read(c.after), " short taps ", c.short_taps,
                 c.has_skip ? " skip " : " ", mahia::name_of(c.algorithm));
}

// h, [skip], then of v, gate_before and gate_after x, weight and bias as far as they are there.
std::vector<Input> inputs(const Recurrence& c) {
  const int64_t width = c.shape[1];
  std::vector<Input> list = {{{width, c.taps}, -0.3, 0.3}};
  if (c.has_skip) list.push_back({{width}, -1, 1});
  for (const Read how : {c.v, c.before, c.after}) {
    if (how >= Read::as_it_is) list.push_back({c.shape, -1.5, 1.5});
    if (how >= Read::weighted) list.push_back({{width, c.short_taps}, -0.7, 0.7});
    if (how == Read::biased) list.push_back({{width}, -0.7, 0.7});
  }
  return list;
}

template <class T>
struct Signal {
  T x, weight, bias;
};

template <class T>
struct RecurrenceOperands {
  T h, skip;
  Signal<T> v, before, after;
  RecurrenceOperands(const std::vector<T>& all, const Recurrence& c) {
    size_t next = 0;
    h = all[next++];
    if (c.has_skip) skip = all[next++];
    for (auto [how, signal] : {std::pair(c.v, &v), {c.before, &before}, {c.after, &after}}) {
      if (how >= Read::as_it_is) signal->x = all[next++];
      if (how >= Read::weighted) signal->weight = all[next++];
      if (how == Read::biased) signal->bias = all[next++];
    }
  }
};

Tensor fused(const Tensors& all, const Recurrence& c) {
  const RecurrenceOperands<Tensor> o(all, c);
  const auto filtered = [](const Signal<Tensor>& s) { return ShortFiltered{s.x, s.weight, s.bias}; };
  return hyena_conv(
      filtered(o.v), o.h,
      {.skip = o.skip, .gate_before = filtered(o.before), .gate_after = filtered(o.after), .algorithm = c.algorithm});
}

Tensor composed(const Tensors& all, const Recurrence& c) {
  const RecurrenceOperands<Tensor> o(all, c);
  const auto filtered = [&](const Signal<Tensor>& s) {
    if (!s.weight) return s.x;
    return conv1d(s.x, unsqueeze(s.weight, 1), s.bias, {.padding = Padding::causal, .groups = c.shape[1]});
  };
  return long_conv(
      filtered(o.v), o.h,
      {.skip = o.skip, .gate_before = filtered(o.before), .gate_after = filtered(o.after), .algorithm = c.algorithm});
}

// The sums as written.
Array filtered_sum(const Signal<Array>& s, const Recurrence& c) {
  if (s.weight.values.empty()) return s.x;
  const int64_t width = c.shape[1], time = c.shape[2], taps = c.short_taps;
  Array y(c.shape);
  for (int64_t i = 0; i < y.size(); ++i) {
    const int64_t d = i / time % width, t = i % time;
    if (!s.bias.values.empty()) y[i] = s.bias[d];
    for (int64_t k = 0; k < taps; ++k) {
      const int64_t from = t + k - (taps - 1);
      if (from >= 0) y[i] += s.weight[d * taps + k] * s.x[i - t + from];
    }
  }
  return y;
}

Array reference(const Arrays& all, const Recurrence& c) {
  const RecurrenceOperands<Array> o(all, c);
  Arrays x = {filtered_sum(o.v, c), o.h};
  int parts = none;
  const auto add = [&](bool is_there, Parts part, const Array& operand) {
    if (!is_there) return;
    parts |= part;
    x.push_back(operand);
  };
  add(c.has_skip, with_skip, o.skip);
  add(c.before != Read::absent, with_before, filtered_sum(o.before, c));
  add(c.after != Read::absent, with_after, filtered_sum(o.after, c));
  return direct_sum(x, parts);
}

std::vector<OpCase> made(const std::vector<Recurrence>& list) {
  std::vector<OpCase> all;
  for (const ConvAlgorithm algorithm : conv_algorithms) {
    for (Recurrence c : list) {
      c.algorithm = algorithm;
      all.push_back({name_of(c), inputs(c), [c](const Tensors& x) { return Tensors{fused(x, c)}; },
                     [c](const Arrays& x) { return Arrays{reference(x, c)}; }});
    }
  }
  return all;
}

constexpr Read absent = Read::absent, as_it_is = Read::as_it_is, weighted = Read::weighted, biased = Read::biased;

std::vector<OpCase> cases() {
  return made({
      {{1, 1, 1}, 1, biased, biased, biased, 1},
      {{1, 2, 2}, 3, biased, weighted, biased, 5},  // shorter than the short filter
      {{0, 2, 5}, 5, biased, biased, biased},
      {{2, 0, 5}, 5, biased, biased, biased},
      {{2, 3, 0}, 4, biased, biased, biased},
      {{2, 3, 9}, 9, biased, biased, biased},
      {{3, 2, 12}, 12, weighted, as_it_is, absent, 4, false},
      {{1, 2, 33}, 5, as_it_is, biased, absent},
      {{2, 1, 40}, 64, as_it_is, absent, weighted},
      {{1, 1, 70}, 70, biased, absent, biased, 2, false},
      {{2, 1, 20}, 20, as_it_is, as_it_is, as_it_is},
  });
}

std::vector<OpCase> device_cases() {
  return made({
      {{65537, 1, 3}, 3, biased, biased, biased},
      {{1, 65537, 2}, 2, biased, absent, weighted},
      {{9, 33, 257}, 257, biased, biased, biased},
      {{2, 129, 128}, 64, weighted, biased, biased, 4},
      {{3, 31, 255}, 1000, as_it_is, biased, as_it_is, 7},
      {{1, 3, 5000}, 17, biased, weighted, absent, 9},
      {{5, 7, 1}, 1, biased, biased, biased},
      {{33, 2, 2048}, 2048, biased, biased, biased},
      {{2, 3, 4099}, 4099, biased, biased, absent},
      {{2, 3, 8192}, 8192, weighted, absent, biased, 2},
      {{1, 2, 20000}, 20000, biased, biased, biased},
  });
}

// In bf16 each short-filtered number is rounded before it is multiplied and summed.
const OpSpec hyena_conv_spec(
    "hyena_conv", cases,
    {.f32_rtol = 1.3e-6, .f32_atol = 2e-5, .bf16_rtol = 2e-2, .bf16_atol = 5e-2, .device_cases = device_cases});

Tensors random_inputs(const Recurrence& c, DType dtype = DType::f32) {
  Tensors all;
  for (const Input& input : inputs(c)) all.push_back(make_input(input, dtype, 7 + all.size(), false));
  return all;
}

// The same numbers as parts of a larger channel-first signal, as Hyena's projection leaves them: strided in batch and
// channel.
Tensors channel_first(const Tensors& all) {
  Tensors moved;
  for (const Tensor& x : all) {
    if (x.rank() != 3) {
      moved.push_back(x);
      continue;
    }
    const Tensor z = empty({2 * x.size(1), x.size(0), x.size(2)}, x.dtype());
    const Tensor part = transpose(narrow(z, 0, x.size(1), x.size(1)), 0, 1);
    kernels::copy(x, part.output_view());
    moved.push_back(part);
  }
  return moved;
}

struct Results {
  Tensor y;
  Tensors gradients;
};

Results run(Tensor (*recurrence)(const Tensors&, const Recurrence&), const Tensors& all, const Recurrence& c) {
  Tensors leaves, gradients;
  for (const Tensor& x : all) leaves.push_back(x.detach().set_requires_grad(true));
  const Tensor y = recurrence(leaves, c);
  backward(Tensors{y}, Tensors{make_input({c.shape}, y.dtype(), 99, false)});
  for (const Tensor& x : leaves) gradients.push_back(x.grad());
  return {y, gradients};
}

// All bits but those of the short filter's gradients, whose sums may have another order.
void check_same_as_composed(const Tensors& all, const Recurrence& c) {
  const Results one = run(fused, all, c), two = run(composed, all, c);
  check_same_bits(one.y, two.y);
  BOOST_TEST((one.y.strides() == two.y.strides()));
  for (size_t i = 0; i < all.size(); ++i) {
    const bool is_short_filter = all[i].rank() < 3 && i >= (c.has_skip ? 2 : 1);
    if (is_short_filter) {
      const double relative = all[i].dtype() == DType::f64 ? 1e-12 : all[i].dtype() == DType::f32 ? 1e-4 : 2e-2;
      check_close(one.gradients[i], to_array(two.gradients[i]), {relative, relative});
    } else {
      check_same_bits(one.gradients[i], two.gradients[i]);
    }
  }
}

BOOST_AUTO_TEST_SUITE(hyena_conv)

BOOST_AUTO_TEST_CASE(has_the_bits_of_conv1d_and_long_conv) {
  for (const ConvAlgorithm algorithm : conv_algorithms) {
    for (Recurrence c : {Recurrence{{3, 4, 150}, 150, biased, biased, biased},
                         {{2, 3, 65}, 40, biased, weighted, absent, 4},
                         {{1, 2, 3}, 3, biased, biased, biased, 7},
                         {{2, 2, 33}, 33, as_it_is, biased, as_it_is, 2, false},
                         {{2, 1, 4500}, 100, biased, biased, weighted}}) {
      c.algorithm = algorithm;
      for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
        BOOST_TEST_CONTEXT(name_of(c) << ", " << mahia::name_of(dtype)) {
          const Tensors all = random_inputs(c, dtype);
          check_same_as_composed(all, c);
          check_same_as_composed(channel_first(all), c);
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(without_a_weight_it_is_long_conv) {
  for (const ConvAlgorithm algorithm : conv_algorithms) {
    const Recurrence c{{2, 3, 70}, 70, as_it_is, as_it_is, as_it_is, 3, true, algorithm};
    check_same_as_composed(random_inputs(c), c);
  }
}

BOOST_AUTO_TEST_CASE(rejects_operands_that_do_not_fit) {
  const Tensor x = zeros({2, 3, 8}), h = zeros({3, 8}), weight = zeros({3, 4}), bias = zeros({3});
  const auto call = [&](const ShortFiltered& v, const HyenaConvOptions& options = {}) {
    return [=] { mahia::hyena_conv(v, h, options); };
  };
  check_throws<ShapeError>(call({}), "hyena_conv: v must be (B, D, T), got undefined");
  check_throws<ShapeError>(call({zeros({3, 8})}), "hyena_conv: v must be (B, D, T), got f32 [3, 8] cpu:0");
  check_throws<ShapeError>(call({x, zeros({4, 4})}),
                           "hyena_conv: the weight of v must be (D, K) with D = 3, K >= 1: x f32 [2, 3, 8] cpu:0, "
                           "weight f32 [4, 4] cpu:0");
  check_throws<ShapeError>(call({x, zeros({3, 0})}), "weight f32 [3, 0] cpu:0");
  check_throws<ShapeError>(call({x, zeros({3, 1, 4})}), "hyena_conv: the weight of v must be (D, K)");
  check_throws<ShapeError>(call({x, {}, bias}), "hyena_conv: the bias of v must be (D) with D = 3 beside a weight");
  check_throws<ShapeError>(call({x, weight, zeros({4})}), "bias f32 [4] cpu:0");
  check_throws<ShapeError>(call({x}, {.gate_after = {zeros({2, 3, 7})}}),
                           "hyena_conv: gate_after must have v's shape: v f32 [2, 3, 8] cpu:0, gate_after f32 [2, 3, "
                           "7] cpu:0");
  check_throws<ShapeError>(call({x}, {.gate_before = {{}, weight}}),
                           "hyena_conv: gate_before has a short filter and no x");
  check_throws<DTypeError>(call({x}, {.gate_before = {zeros({2, 3, 8}, DType::f64)}}),
                           "hyena_conv: gate_before must have v's dtype");
  check_throws<DTypeError>(call({x, zeros({3, 4}, DType::f64)}),
                           "hyena_conv: a filter has the signal's dtype, or f32 beside bf16");
  check_throws<DTypeError>(call({zeros({2, 3, 8}, DType::i64)}), "hyena_conv: needs f64, f32 or bf16");
  check_throws<ShapeError>(call({zeros({2, 4, 8})}), "hyena_conv: h must be (D, K) with D = 4");
  check_throws<ShapeError>(call({x}, {.skip = zeros({4})}), "hyena_conv: skip must be (D) with D = 3");
}

BOOST_AUTO_TEST_CASE(does_not_see_the_future) {
  for (const ConvAlgorithm algorithm : {ConvAlgorithm::dyadic, ConvAlgorithm::direct}) {
    const Recurrence c{{2, 2, 150}, 150, biased, biased, biased, 4, true, algorithm};
    for (const int64_t now : {0, 2, 70, 148}) {
      const int64_t later = c.shape[2] - now - 1;
      Tensors all = random_inputs(c);
      const Tensor before = fused(all, c);
      for (Tensor& x : all) {
        x = clone(x);
        if (x.rank() == 3) fill(narrow(x, 2, now + 1, later), 1e30);
      }
      check_same_bits(narrow(fused(all, c), 2, 0, now + 1), narrow(before, 2, 0, now + 1));
      all = random_inputs(c);
      for (Tensor& x : all) x.set_requires_grad(true);
      backward(sum(select(fused(all, c), 2, now)));
      for (const Tensor& x : all) {
        if (x.rank() != 3) continue;
        check_close(narrow(x.grad(), 2, now + 1, later), Array({2, 2, later}), {0, 0});
        BOOST_TEST(rms(to_array(select(x.grad(), 2, now)).values) > 0);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(bits_depend_on_no_other_row_and_no_number_of_threads) {
  const int threads_before = num_threads();
  for (const ConvAlgorithm algorithm : conv_algorithms) {
    const Recurrence c{{5, 4, 150}, 150, biased, biased, biased, 3, true, algorithm};
    const Tensors all = random_inputs(c);
    const Results first = run(fused, all, c);
    Tensors row;
    for (const Tensor& x : all) row.push_back(x.rank() == 3 ? narrow(x, 0, 3, 1) : x);
    check_same_bits(fused(row, c), narrow(first.y, 0, 3, 1));
    for (const int threads : {1, 2, 3, 7}) {
      set_num_threads(threads);
      const Results again = run(fused, all, c);
      check_same_bits(again.y, first.y);
      for (size_t i = 0; i < all.size(); ++i) check_same_bits(again.gradients[i], first.gradients[i]);
    }
  }
  set_num_threads(threads_before);
}

BOOST_AUTO_TEST_CASE(takes_f32_weights_beside_bf16_signals) {
  const Recurrence c{{2, 3, 50}, 50, biased, biased, biased};
  const Tensors all = random_inputs(c, DType::bf16);
  Tensors wide;
  for (const Tensor& x : all) wide.push_back(x.rank() == 3 ? x : copy_to(x, cpu_device, DType::f32));
  const Results narrow_weights = run(fused, all, c), wide_weights = run(fused, wide, c);
  check_same_bits(wide_weights.y, narrow_weights.y);
  for (size_t i = 0; i < all.size(); ++i) {
    const auto rounded = [](const Tensor& x) { return copy_to(x, cpu_device, DType::bf16); };
    check_same_bits(rounded(wide_weights.gradients[i]), rounded(narrow_weights.gradients[i]));
  }
}

// Each gradient alone equals the one beside all others.
BOOST_AUTO_TEST_CASE(gradients_do_not_depend_on_which_are_wanted) {
  for (const ConvAlgorithm algorithm : conv_algorithms) {
    const Recurrence c{{2, 3, 40}, 40, biased, biased, biased, 3, true, algorithm};
    const Tensors all = random_inputs(c);
    const Results every = run(fused, all, c);
    for (size_t i = 0; i < all.size(); ++i) {
      Tensors leaves;
      for (size_t k = 0; k < all.size(); ++k) leaves.push_back(all[k].detach().set_requires_grad(k == i));
      backward(Tensors{fused(leaves, c)}, Tensors{make_input({c.shape}, DType::f32, 99, false)});
      check_same_bits(leaves[i].grad(), every.gradients[i]);
    }
  }
}

BOOST_AUTO_TEST_CASE(keeps_no_filtered_signal_for_the_gradient) {
  const Recurrence c{{4, 8, 4096}, 64, biased, biased, biased};
  const auto signals_kept = [&](auto* recurrence) {
    Tensors all = random_inputs(c);
    for (Tensor& x : all) x.set_requires_grad(true);
    const int64_t before = memory_stats(cpu_device).allocated;
    const Tensor y = recurrence(all, c);
    return static_cast<double>(memory_stats(cpu_device).allocated - before) / static_cast<double>(y.numel() * 4);
  };
  BOOST_TEST(signals_kept(fused) < 2.1);     // y and the result before gate_after
  BOOST_TEST(signals_kept(composed) > 4.9);  // and three filtered ones
}

// In signals: forward reads three x and writes y and the result before gate_after; backward reads these x, that and dy
// and writes three gradients. The composition also writes and reads the three filtered signals and their gradients, and
// reads each x once more.
BOOST_AUTO_TEST_CASE(moves_half_of_the_bytes_of_its_composition) {
  const Recurrence c{{4, 8, 4096}, 64, biased, biased, biased};
  const auto signals_moved = [&](auto* recurrence) {
    const Tensors all = random_inputs(c);
    count_costs(true);
    const double before = counters().bytes;
    run(recurrence, all, c);
    const double bytes = counters().bytes - before;
    count_costs(false);
    return bytes / static_cast<double>(numel(c.shape) * 4);
  };
  BOOST_TEST(std::lround(signals_moved(fused)) == 13);
  BOOST_TEST(std::lround(signals_moved(composed)) == 28);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
