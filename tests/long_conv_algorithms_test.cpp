// SPDX-License-Identifier: Apache-2.0
// What the algorithms of long_conv promise beside their values: which outputs a change of the input can reach, how they
// agree, what they cost.
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>

#include "autograd/backward.hpp"
#include "core/copy.hpp"
#include "core/counters.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/convolution.hpp"

namespace mahia::tests {
namespace {

constexpr ConvAlgorithm causal_algorithms[] = {ConvAlgorithm::dyadic, ConvAlgorithm::direct};
constexpr double poisons[] = {std::numeric_limits<double>::quiet_NaN(), 1e30, -std::numeric_limits<double>::infinity()};

bool is_signal(const Tensor& x) { return x.rank() == 3; }
Tensor prefix(const Tensor& x, int64_t length) { return is_signal(x) ? narrow(x, 2, 0, length) : x; }

// Copies whose signals have `value` from `begin` on.
Tensors changed_from(const Tensors& x, int64_t begin, double value) {
  Tensors y;
  for (const Tensor& operand : x) {
    y.push_back(clone(operand));
    if (is_signal(operand)) fill(narrow(y.back(), 2, begin, operand.size(2) - begin), value);
  }
  return y;
}

// Outputs up to `now` when everything behind is replaced, and when it is not there.
void check_prefix(const Tensors& x, int64_t now, ConvAlgorithm algorithm) {
  const int64_t length = now + 1;
  const Tensor y = convolve(x, all, algorithm), expected = prefix(y, length);
  for (const double value : poisons) {
    const Tensor changed = convolve(changed_from(x, length, value), all, algorithm);
    check_same_bits(prefix(changed, length), expected);
    const auto next = [&](const Tensor& t) { return select(t, 2, length).to_vector<double>(); };
    if (length < y.size(2)) BOOST_TEST((next(changed) != next(y)));
  }
  Tensors cut;
  for (const Tensor& operand : x) cut.push_back(prefix(operand, length));
  check_same_bits(convolve(cut, all, algorithm), expected);
}

void check_gradients_end(const Tensors& operands, int64_t now, ConvAlgorithm algorithm) {
  Tensors x;
  for (const Tensor& operand : operands) x.push_back(clone(operand).set_requires_grad(true));
  backward(sum(prefix(convolve(x, all, algorithm), now + 1)));
  for (const Tensor& operand : x) {
    if (!is_signal(operand)) continue;
    const int64_t later = operand.size(2) - now - 1;
    for (const double g : narrow(operand.grad(), 2, now + 1, later).to_vector<double>()) BOOST_REQUIRE_EQUAL(g, 0);
    BOOST_TEST(rms(select(operand.grad(), 2, now).to_vector<double>()) > 0);
  }
}

// How far outputs 0 ... begin - 1 move, relative to their size, when the input grows a million times from `begin` on.
double leak(ConvAlgorithm algorithm, int64_t time, int64_t begin) {
  Tensors x = random_operands({1, 4, time});
  const Array before = to_array(prefix(convolve(x, none, algorithm), begin));
  Array loud = to_array(x[0]);
  for (int64_t i = 0; i < loud.size(); ++i) loud[i] *= i % time >= begin ? 1e6 : 1;
  x[0] = copy_to(Tensor::from(loud.values, loud.shape), cpu_device, DType::f32);
  return relative_rms_error(prefix(convolve(x, none, algorithm), begin), before);
}

double flops_of(const Tensors& x, ConvAlgorithm algorithm) {
  count_costs(true);
  const double before = counters().flops;
  convolve(x, none, algorithm);
  const double after = counters().flops;
  count_costs(false);
  return after - before;
}

BOOST_AUTO_TEST_SUITE(long_conv_algorithms)

BOOST_AUTO_TEST_CASE(no_later_input_changes_a_bit_of_an_output) {
  for (const ConvAlgorithm algorithm : causal_algorithms) {
    for (const int64_t time : {1, 2, 64, 65, 130, 257, 600}) {
      for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
        const Tensors x = random_operands({2, 2, time}, dtype);
        for (const int64_t now : {int64_t{0}, time / 3, time / 2, time - 1}) {
          BOOST_TEST_CONTEXT(name_of(algorithm) << ", time " << time << ", now " << now << ", " << name_of(dtype)) {
            check_prefix(x, now, algorithm);
          }
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(gradients_of_outputs_are_zero_behind_them) {
  for (const ConvAlgorithm algorithm : causal_algorithms) {
    for (const int64_t time : {2, 65, 130, 257, 600}) {
      for (const DType dtype : {DType::f32, DType::f64}) {
        for (const int64_t now : {int64_t{0}, time / 3, time / 2, time - 2}) {
          BOOST_TEST_CONTEXT(name_of(algorithm) << ", time " << time << ", now " << now << ", " << name_of(dtype)) {
            check_gradients_end(random_operands({2, 2, time}, dtype), now, algorithm);
          }
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(only_fft_lets_round_off_of_the_future_into_the_past) {
  const double of_fft = leak(ConvAlgorithm::fft, 4096, 3000);
  BOOST_TEST_MESSAGE("fft: outputs before an input a million times louder move by " << of_fft << " of their size");
  BOOST_TEST(of_fft > 0.01);
  BOOST_TEST(of_fft < 1);
  for (const ConvAlgorithm algorithm : causal_algorithms) BOOST_TEST(leak(algorithm, 4096, 3000) == 0);
}

BOOST_AUTO_TEST_CASE(filters_may_be_shorter_or_longer_than_the_signal) {
  for (const int64_t time : {100, 700}) {
    for (const int64_t taps : {1, 2, 63, 64, 65, 66, 128, 129, 130, 257, 900}) {
      Tensors x = {make_input({{2, 2, time}}, DType::f32, 0, false), make_input({{2, taps}}, DType::f32, 1, false)};
      const Array expected = direct_sum({to_array(x[0]), to_array(x[1])}, none);
      for (const ConvAlgorithm algorithm : conv_algorithms) {
        BOOST_TEST(relative_rms_error(convolve(x, none, algorithm), expected) <= 3e-7,
                   name_of(algorithm) << ", time " << time << ", taps " << taps);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(gradients_agree_with_those_of_the_direct_sums) {
  for (const int64_t taps : {1, 100, 1500, 2500}) {
    Tensors first;
    for (const ConvAlgorithm algorithm : {ConvAlgorithm::direct, ConvAlgorithm::dyadic, ConvAlgorithm::fft}) {
      Tensors x = random_operands({3, 2, 2000});
      x[1] = make_input({{2, taps}}, DType::f32, 1, false);
      for (Tensor& operand : x) operand.set_requires_grad(true);
      const Tensor y = convolve(x, all, algorithm);
      backward({y}, {make_input({y.shape()}, DType::f32, 9, false)});
      for (size_t i = 0; i < x.size(); ++i) {
        if (algorithm == ConvAlgorithm::direct) first.push_back(x[i].grad());
        BOOST_TEST(relative_rms_error(x[i].grad(), to_array(first[i])) <= 6e-7,
                   name_of(algorithm) << ", taps " << taps << ", gradient " << i);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(bf16_adds_nothing_to_the_rounding_of_the_output) {
  for (const int64_t time : {50, 3000}) {
    const Tensors x = random_operands({1, 2, time}, DType::bf16);
    Arrays arrays;
    for (const Tensor& operand : x) arrays.push_back(to_array(operand));
    const Array expected = direct_sum(arrays, all);
    const Tensor rounded = copy_to(Tensor::from(expected.values, expected.shape), cpu_device, DType::bf16);
    const double rounding = relative_rms_error(rounded, expected);
    for (const ConvAlgorithm algorithm : conv_algorithms) {
      BOOST_TEST(relative_rms_error(convolve(x, all, algorithm), expected) <= rounding + 1e-4, name_of(algorithm));
    }
  }
}

BOOST_AUTO_TEST_CASE(automatic_is_the_algorithm_that_resolve_names) {
  for (const int64_t time : {20, 500}) {
    for (const int64_t taps : {3, 500}) {
      Tensors x = random_operands({1, 2, time});
      x[1] = make_input({{2, taps}}, DType::f32, 1, false);
      const ConvAlgorithm meant = resolve(ConvAlgorithm::automatic, cpu_device, time, taps);
      BOOST_TEST(((meant == ConvAlgorithm::fft) || (meant == ConvAlgorithm::direct)));
      check_same_bits(convolve(x, all), convolve(x, all, meant));
    }
  }
  BOOST_TEST((resolve(ConvAlgorithm::automatic, cpu_device, 4096, 7) == ConvAlgorithm::direct));
  BOOST_TEST((resolve(ConvAlgorithm::automatic, cpu_device, 4096, 4096) == ConvAlgorithm::fft));
  constexpr Device gpu{DeviceType::cuda, 0};
  BOOST_TEST((resolve(ConvAlgorithm::automatic, gpu, 1024, 3) == ConvAlgorithm::fft));
  BOOST_TEST((resolve(ConvAlgorithm::automatic, gpu, 16384, 64) == ConvAlgorithm::direct));
  BOOST_TEST((resolve(ConvAlgorithm::automatic, gpu, 16384, 65) == ConvAlgorithm::fft));
  BOOST_TEST((resolve(ConvAlgorithm::automatic, gpu, 131072, 128) == ConvAlgorithm::direct));
  for (const ConvAlgorithm algorithm : conv_algorithms) {
    BOOST_TEST((resolve(algorithm, cpu_device, 4096, 7) == algorithm));
  }
}

BOOST_AUTO_TEST_CASE(operations_grow_as_documented) {
  double least = 1e9, most = 0;
  for (int64_t time = 512; time <= 65536; time *= 2) {
    const Tensors x = random_operands({1, 1, time});
    const auto n = static_cast<double>(time);
    const double per_step = flops_of(x, ConvAlgorithm::dyadic) / (n * std::log2(n) * std::log2(n));
    least = std::min(least, per_step);
    most = std::max(most, per_step);
  }
  BOOST_TEST(most <= 1.5 * least);
  const Tensors x = random_operands({2, 3, 64});
  BOOST_TEST(flops_of(x, ConvAlgorithm::direct) == 2 * 6 * 64 * 65 / 2.0);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(slow_long_conv_algorithms)

BOOST_AUTO_TEST_CASE(no_later_input_changes_a_bit_of_an_output_at_any_length) {
  for (const ConvAlgorithm algorithm : causal_algorithms) {
    for (int64_t time = 1; time <= 300; ++time) {
      const Tensors x = random_operands({1, 1, time});
      for (const int64_t now : {time / 2, time - 1}) check_prefix(x, now, algorithm);
      check_gradients_end(x, time / 2, algorithm);
    }
    const Tensors x = random_operands({1, 1, 5000});
    for (int64_t now = 0; now < 5000; now += 97) check_prefix(x, now, algorithm);
    for (int64_t now = 0; now < 4999; now += 397) check_gradients_end(x, now, algorithm);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
