// SPDX-License-Identifier: Apache-2.0
#include "ops/long_conv.hpp"

#include <boost/test/unit_test.hpp>

#include "autograd/backward.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/parallel.hpp"
#include "core/random.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/convolution.hpp"

namespace mahia::tests {
namespace {

OpCase make_case(const Shape& shape, int64_t taps, int parts, ConvAlgorithm algorithm) {
  return {message(shape, " taps ", taps, " parts ", parts, " ", name_of(algorithm)), conv_inputs(shape, taps, parts),
          [=](const Tensors& x) { return Tensors{convolve(x, parts, algorithm)}; },
          [=](const Arrays& x) { return Arrays{direct_sum(x, parts)}; }};
}

void add_cases(std::vector<OpCase>& list, ConvAlgorithm algorithm) {
  const auto add = [&](const Shape& shape, int64_t taps, int parts) {
    list.push_back(make_case(shape, taps, parts, algorithm));
  };
  add({1, 1, 1}, 1, none);
  add({1, 1, 1}, 3, all);
  add({0, 2, 5}, 5, all);
  add({2, 0, 5}, 5, all);
  add({2, 3, 0}, 4, all);
  add({2, 3, 7}, 7, with_before | with_after);
  add({3, 2, 12}, 12, with_skip);
  add({1, 2, 33}, 5, with_skip | with_before);
  add({2, 1, 40}, 64, with_after);
  add({1, 2, 65}, 65, all);
  add({2, 2, 70}, 200, with_before);
  add({1, 1, 150}, 150, with_skip);
}

std::vector<OpCase> cases() {
  std::vector<OpCase> list;
  for (const ConvAlgorithm algorithm : conv_algorithms) add_cases(list, algorithm);
  return list;
}

std::vector<OpCase> device_cases() {
  std::vector<OpCase> list;
  for (const ConvAlgorithm algorithm : conv_algorithms) {
    const auto add = [&](const Shape& shape, int64_t taps, int parts) {
      list.push_back(make_case(shape, taps, parts, algorithm));
    };
    add({65537, 1, 3}, 3, all);
    add({1, 65537, 2}, 2, with_skip);
    add({9, 33, 257}, 257, all);
    add({2, 129, 128}, 64, all);
    add({3, 31, 255}, 1000, with_before);
    add({1, 3, 5000}, 17, all);
    add({1, 2, 100}, 9001, with_after);
    add({5, 7, 1}, 1, all);
    add({33, 2, 2048}, 2048, none);
    add({1, 256, 513}, 1, with_skip | with_after);
    int parts = 0;  // lengths: primes, powers of two, and their neighbours
    for (const int64_t n : {31,   32,   33,   64,   127,  128,  129,  256,   509,   1000, 1023,
                            1024, 1025, 2049, 4096, 4099, 8191, 8192, 16384, 19997, 20000}) {
      add({2, 3, n}, n, parts++ % 8);
    }
  }
  return list;
}

const OpSpec long_conv_spec("long_conv", cases, {.f32_rtol = 1.3e-6, .f32_atol = 2e-5, .device_cases = device_cases});

void check_length(int64_t n) {
  const ConvRow row(n, n, DType::f32, direct_row), wide_row(n, n, DType::f64, direct_row);
  for (const ConvAlgorithm algorithm : conv_algorithms) {
    BOOST_TEST(row.worst_error(algorithm) <= 3e-7, name_of(algorithm) << ", length " << n);
    BOOST_TEST(wide_row.worst_error(algorithm) <= 1e-14, name_of(algorithm) << ", length " << n);
  }
}

BOOST_AUTO_TEST_SUITE(long_conv)

BOOST_AUTO_TEST_CASE(rejects_operands_that_do_not_fit) {
  const Tensor u = zeros({2, 3, 8}), h = zeros({3, 8});
  check_throws<ShapeError>(
      [&] {
        mahia::long_conv(zeros({3, 8}), h);
      },
      "long_conv: u must be (B, D, T), got f32 [3, 8] cpu:0");
  check_throws<ShapeError>(
      [&] {
        mahia::long_conv(u, zeros({4, 8}));
      },
      "long_conv: h must be (D, K) with D = 3, K >= 1: u f32 [2, 3, 8] cpu:0, h f32 [4, 8] cpu:0");
  check_throws<ShapeError>([&] { mahia::long_conv(u, zeros({3, 0})); }, "h f32 [3, 0] cpu:0");
  check_throws<ShapeError>([&] { mahia::long_conv(u, h, {.skip = zeros({4})}); },
                           "long_conv: skip must be (D) with D = 3");
  check_throws<ShapeError>(
      [&] {
        mahia::long_conv(u, h, {.gate_after = zeros({2, 3, 7})});
      },
      "long_conv: gate_after must have u's shape: u f32 [2, 3, 8] cpu:0, gate_after f32 [2, 3, 7] cpu:0");
  check_throws<DTypeError>(
      [&] {
        mahia::long_conv(u, h, {.gate_before = zeros({2, 3, 8}, DType::f64)});
      },
      "long_conv: gate_before must have u's dtype");
  check_throws<DTypeError>(
      [&] {
        mahia::long_conv(u, zeros({3, 8}, DType::f64));
      },
      "long_conv: a filter has the signal's dtype, or f32 beside bf16");
  check_throws<DTypeError>(
      [&] {
        mahia::long_conv(zeros({2, 3, 8}, DType::i64), h);
      },
      "long_conv: needs f64, f32 or bf16");
}

BOOST_AUTO_TEST_CASE(does_not_see_the_future) {
  for (const ConvAlgorithm algorithm : conv_algorithms) {
    for (const int64_t time : {1, 2, 31, 64, 100, 257}) {
      const int64_t now = time / 2;
      Tensors x = random_operands({2, 3, time}, DType::f64);
      const Tensor before = convolve(x, all, algorithm);
      for (Tensor& operand : x) {
        if (operand.rank() == 3) fill(narrow(operand, 2, now + 1, time - now - 1), 100);
      }
      const Tensor after = convolve(x, all, algorithm);
      const Array past = to_array(narrow(before, 2, 0, now + 1));
      check_close(narrow(after, 2, 0, now + 1), past, {0, 1e-9});
    }
  }
}

BOOST_AUTO_TEST_CASE(gradients_do_not_reach_the_future) {
  for (const ConvAlgorithm algorithm : conv_algorithms) {
    for (const int64_t time : {2, 31, 64, 100, 257}) {
      const int64_t now = time / 2, later = time - now - 1;
      Tensors x = random_operands({2, 3, time}, DType::f64);
      for (Tensor& operand : x) operand.set_requires_grad(true);
      backward(sum(select(convolve(x, all, algorithm), 2, now)));
      for (const Tensor& operand : {x[0], x[3], x[4]}) {
        const Tensor future = narrow(operand.grad(), 2, now + 1, later);
        check_close(future, Array(future.shape()), {0, 1e-12});
        BOOST_TEST(rms(to_array(select(operand.grad(), 2, now)).values) > 0.01);
      }
      const Tensor unused_taps = narrow(x[1].grad(), 1, now + 1, later);
      check_close(unused_taps, Array(unused_taps.shape()), {0, 1e-12});
    }
  }
}

BOOST_AUTO_TEST_CASE(a_row_has_the_same_bits_in_any_batch_and_layout) {
  for (const ConvAlgorithm algorithm : conv_algorithms) {
    const Tensors x = random_operands({5, 4, 150});
    const Tensor y = convolve(x, all, algorithm);
    for (const int64_t b : {0, 3, 4}) {
      const auto row = [&](const Tensor& t) { return t.rank() == 3 ? narrow(t, 0, b, 1) : t; };
      check_same_bits(convolve({row(x[0]), x[1], x[2], row(x[3]), row(x[4])}, all, algorithm), narrow(y, 0, b, 1));
    }
    const auto channel = [&](const Tensor& t) { return narrow(t, t.rank() == 3 ? 1 : 0, 2, 1); };
    Tensors one_channel, width_first;
    for (const Tensor& t : x) {
      one_channel.push_back(channel(t));
      width_first.push_back(t.rank() == 3 ? transpose(contiguous(transpose(t, 0, 1)), 0, 1) : t);
    }
    check_same_bits(convolve(one_channel, all, algorithm), channel(y));
    const Tensor same_order = convolve(width_first, all, algorithm);
    check_same_bits(same_order, y);
    BOOST_TEST((same_order.strides() == width_first[0].strides()));
  }
}

BOOST_AUTO_TEST_CASE(gradients_have_the_same_bits_for_any_thread_count) {
  for (const ConvAlgorithm algorithm : conv_algorithms) {
    const int before = num_threads();
    Tensors first;
    for (const int threads : {1, 2, 3, 7}) {
      set_num_threads(threads);
      Tensors x = random_operands({3, 5, 300});
      for (Tensor& operand : x) operand.set_requires_grad(true);
      backward(sum(convolve(x, all, algorithm)));
      for (size_t i = 0; i < x.size(); ++i) {
        if (threads == 1) first.push_back(x[i].grad());
        check_same_bits(x[i].grad(), first[i]);
      }
    }
    set_num_threads(before);
  }
}

BOOST_AUTO_TEST_CASE(takes_f32_weights_beside_bf16_signals) {
  for (const ConvAlgorithm algorithm : conv_algorithms) {
    const Tensors x = random_operands({2, 3, 50}, DType::bf16);
    Tensors wide = x;
    for (const size_t i : {1, 2}) wide[i] = copy_to(x[i], cpu_device, DType::f32);
    check_same_bits(convolve(wide, all, algorithm), convolve(x, all, algorithm));
    wide[1].set_requires_grad(true);
    backward(sum(convolve(wide, all, algorithm)));
    BOOST_TEST((wide[1].grad().dtype() == DType::f32));
  }
}

BOOST_AUTO_TEST_CASE(the_gradient_of_skip_needs_none_of_the_filter) {
  for (const ConvAlgorithm algorithm : conv_algorithms) {
    Tensors x = random_operands({2, 3, 20}, DType::f64);
    x[2].set_requires_grad(true);
    backward(sum(convolve(x, with_skip, algorithm)));
    const Array expected = to_array(sum(x[0], {0, 2}));
    check_close(x[2].grad(), expected, {1e-12, 1e-12});
  }
}

BOOST_AUTO_TEST_CASE(counts_its_bytes_and_operations) {
  const Tensors x = random_operands({2, 3, 64});
  count_costs(true);
  const Counters before = counters();
  convolve(x, none, ConvAlgorithm::fft);
  const Counters after = counters();
  count_costs(false);
  BOOST_TEST(after.bytes - before.bytes >= (2 * 2 * 3 + 3) * 64 * 4.0);  // u, y and h
  BOOST_TEST(after.flops - before.flops == (2 * 2 + 1) * 3 * 5 * 64 * 6.0);
}

BOOST_AUTO_TEST_CASE(keeps_the_error_that_is_promised) {
  for (const int64_t n : {1, 2, 3, 63, 64, 65, 100, 320, 1000, 1500, 2048, 2880}) check_length(n);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(slow_long_conv)

BOOST_AUTO_TEST_CASE(equals_the_direct_sum_for_every_length_to_256_and_forty_larger) {
  for (int64_t n = 1; n <= 256; ++n) check_length(n);
  int64_t n = 257;
  for (int k = 0; k < 40; ++k, n += n / 10 + 7) check_length(n);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(accept_long_conv)

// `fixed`, and `drawn` lengths in [low, high].
std::vector<int64_t> lengths(std::vector<int64_t> fixed, int drawn, int64_t low, int64_t high) {
  for (int i = 0; i < drawn; ++i) {
    const uint64_t word = random_words({random_key("tests", "lengths"), 0, 0}, static_cast<uint64_t>(low + i))[0];
    fixed.push_back(low + static_cast<int64_t>(word % static_cast<uint64_t>(high - low + 1)));
  }
  return fixed;
}

BOOST_AUTO_TEST_CASE(equals_the_direct_sum_for_every_length_to_4096) {
  for (int64_t n = 1; n <= 4096; ++n) check_length(n);
}

BOOST_AUTO_TEST_CASE(keeps_the_error_that_is_promised_up_to_65536) {
  for (const int64_t n : lengths({16384, 32768, 65535, 65536}, 8, 4097, 65536)) {
    const ConvRow row(n, n, DType::f32, direct_row);
    for (const ConvAlgorithm algorithm : conv_algorithms) {
      const double error = row.worst_error(algorithm);
      BOOST_TEST(error <= 4e-7, name_of(algorithm) << ", length " << n << ": " << error);
    }
  }
}

BOOST_AUTO_TEST_CASE(keeps_the_error_that_is_promised_up_to_a_million) {
  for (const int64_t n : lengths({65537, 1048576}, 4, 65537, 1048576)) {
    const ConvRow whole(n, n, DType::f32, sum_by_transforms), short_filter(n, 4096, DType::f32, sum_by_transforms);
    for (const ConvAlgorithm algorithm : conv_algorithms) {
      const ConvRow& row = algorithm == ConvAlgorithm::direct ? short_filter : whole;
      BOOST_TEST(row.worst_error(algorithm) <= 1e-6, name_of(algorithm) << ", length " << n);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
