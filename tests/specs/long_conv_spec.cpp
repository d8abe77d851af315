// SPDX-License-Identifier: Apache-2.0
#include "ops/long_conv.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>

#include "autograd/backward.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/parallel.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

enum Parts { none = 0, with_skip = 1, with_before = 2, with_after = 4, all = 7 };

// Splits {u, h, [skip], [gate before], [gate after]}.
template <class T>
struct Operands {
  T u, h, skip, before, after;
  Operands(const std::vector<T>& x, int parts) : u(x[0]), h(x[1]) {
    size_t next = 2;
    if (parts & with_skip) skip = x[next++];
    if (parts & with_before) before = x[next++];
    if (parts & with_after) after = x[next++];
  }
};

constexpr ConvAlgorithm algorithms[] = {ConvAlgorithm::fft, ConvAlgorithm::dyadic, ConvAlgorithm::direct};

Tensor call(const Tensors& x, int parts, ConvAlgorithm algorithm = ConvAlgorithm::automatic) {
  const Operands<Tensor> o(x, parts);
  return long_conv(o.u, o.h, {.skip = o.skip, .gate_before = o.before, .gate_after = o.after, .algorithm = algorithm});
}

// The sum as written, term by term.
Array direct(const Arrays& x, int parts) {
  const Operands<Array> o(x, parts);
  const int64_t width = o.u.shape[1], time = o.u.shape[2], taps = o.h.shape[1];
  Array y(o.u.shape);
  const auto v = [&](int64_t i) { return parts & with_before ? o.u[i] * o.before[i] : o.u[i]; };
  for (int64_t row = 0; time > 0 && row < y.size() / time; ++row) {
    const int64_t d = row % width;
    for (int64_t t = 0; t < time; ++t) {
      const int64_t i = row * time + t;
      double total = parts & with_skip ? o.skip[d] * v(i) : 0;
      for (int64_t s = 0; s <= std::min(t, taps - 1); ++s) total += o.h[d * taps + s] * v(i - s);
      y[i] = parts & with_after ? o.after[i] * total : total;
    }
  }
  return y;
}

OpCase make_case(const Shape& shape, int64_t taps, int parts, ConvAlgorithm algorithm) {
  std::vector<Input> inputs = {{shape}, {{shape[1], taps}, -0.3, 0.3}};
  if (parts & with_skip) inputs.push_back({{shape[1]}});
  if (parts & with_before) inputs.push_back({shape});
  if (parts & with_after) inputs.push_back({shape});
  return {message(shape, " taps ", taps, " parts ", parts, " ", name_of(algorithm)), inputs,
          [=](const Tensors& x) { return Tensors{call(x, parts, algorithm)}; },
          [=](const Arrays& x) { return Arrays{direct(x, parts)}; }};
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
}

std::vector<OpCase> cases() {
  std::vector<OpCase> list;
  for (const ConvAlgorithm algorithm : algorithms) add_cases(list, algorithm);
  return list;
}

std::vector<OpCase> device_cases() {
  std::vector<OpCase> list;
  for (const ConvAlgorithm algorithm : algorithms) {
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

double rms(const std::vector<double>& values) {
  double total = 0;
  for (const double x : values) total += x * x;
  return std::sqrt(total / static_cast<double>(values.size()));
}

double relative_rms_error(const Tensor& actual, const Array& expected) {
  std::vector<double> error = actual.to_vector<double>();
  for (size_t i = 0; i < error.size(); ++i) error[i] -= expected.values[i];
  return rms(error) / rms(expected.values);
}

Tensor reversed(const Array& x, DType dtype) {
  std::vector<double> values = x.values;
  const auto time = x.shape.back();
  for (auto row = values.begin(); row != values.end(); row += time) std::reverse(row, row + time);
  return copy_to(Tensor::from(values, x.shape), cpu_device, dtype);
}

// Values and gradients of one plain row of length n against the direct sums; both gradients are causal convolutions of
// reversed rows: du reversed is dy reversed convolved with h, dh reversed is dy reversed convolved with u.
double worst_error(int64_t n, DType dtype, ConvAlgorithm algorithm) {
  const auto draw = [&](uint64_t seed) {
    return make_input({{1, 1, n}}, dtype, seed + 3 * static_cast<uint64_t>(n), false);
  };
  const Tensor u = draw(0), dy = draw(2), h = reshape(draw(1), {1, n});
  Tensor leaf_u = u.detach(), leaf_h = h.detach();
  leaf_u.set_requires_grad(true);
  leaf_h.set_requires_grad(true);
  const Tensor y = long_conv(leaf_u, leaf_h, {.algorithm = algorithm});
  backward({y}, {dy});
  const Array rows[] = {to_array(u), to_array(h), to_array(reversed(to_array(dy), dtype))};
  const Array row_h = to_array(reshape(h, {1, 1, n}));
  const double value = relative_rms_error(y, direct({rows[0], rows[1]}, none));
  const double signal = relative_rms_error(reversed(to_array(leaf_u.grad()), dtype), direct({rows[2], rows[1]}, none));
  const Tensor dh = reshape(leaf_h.grad(), {1, 1, n});
  const double filter =
      relative_rms_error(reversed(to_array(dh), dtype), direct({rows[2], to_array(reshape(u, {1, n}))}, none));
  return std::max({value, signal, filter});
}

void check_length(int64_t n) {
  for (const ConvAlgorithm algorithm : algorithms) {
    BOOST_TEST(worst_error(n, DType::f32, algorithm) <= 3e-7, name_of(algorithm) << ", length " << n);
    BOOST_TEST(worst_error(n, DType::f64, algorithm) <= 1e-14, name_of(algorithm) << ", length " << n);
  }
}

Tensors random_operands(const Shape& shape, DType dtype = DType::f32) {
  Tensors x;
  const Shape shapes[] = {shape, {shape[1], shape[2]}, {shape[1]}, shape, shape};
  for (const Shape& s : shapes) x.push_back(make_input({s}, dtype, x.size(), false));
  return x;
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
  for (const int64_t time : {1, 2, 31, 64, 100, 257}) {
    const int64_t now = time / 2;
    Tensors x = random_operands({2, 3, time}, DType::f64);
    const Tensor before = call(x, all);
    for (Tensor& operand : x) {
      if (operand.rank() == 3) fill(narrow(operand, 2, now + 1, time - now - 1), 100);
    }
    const Tensor after = call(x, all);
    const Array past = to_array(narrow(before, 2, 0, now + 1));
    check_close(narrow(after, 2, 0, now + 1), past, {0, 1e-9});
  }
}

BOOST_AUTO_TEST_CASE(gradients_do_not_reach_the_future) {
  for (const int64_t time : {2, 31, 64, 100, 257}) {
    const int64_t now = time / 2, later = time - now - 1;
    Tensors x = random_operands({2, 3, time}, DType::f64);
    for (Tensor& operand : x) operand.set_requires_grad(true);
    backward(sum(select(call(x, all), 2, now)));
    for (const Tensor& operand : {x[0], x[3], x[4]}) {
      const Tensor future = narrow(operand.grad(), 2, now + 1, later);
      check_close(future, Array(future.shape()), {0, 1e-12});
      BOOST_TEST(rms(to_array(select(operand.grad(), 2, now)).values) > 0.01);
    }
    const Tensor unused_taps = narrow(x[1].grad(), 1, now + 1, later);
    check_close(unused_taps, Array(unused_taps.shape()), {0, 1e-12});
  }
}

BOOST_AUTO_TEST_CASE(a_row_has_the_same_bits_in_any_batch_and_layout) {
  const Tensors x = random_operands({5, 4, 150});
  const Tensor y = call(x, all);
  for (const int64_t b : {0, 3, 4}) {
    const auto row = [&](const Tensor& t) { return t.rank() == 3 ? narrow(t, 0, b, 1) : t; };
    check_same_bits(call({row(x[0]), x[1], x[2], row(x[3]), row(x[4])}, all), narrow(y, 0, b, 1));
  }
  const auto channel = [&](const Tensor& t) { return narrow(t, t.rank() == 3 ? 1 : 0, 2, 1); };
  Tensors one_channel, width_first;
  for (const Tensor& t : x) {
    one_channel.push_back(channel(t));
    width_first.push_back(t.rank() == 3 ? transpose(contiguous(transpose(t, 0, 1)), 0, 1) : t);
  }
  check_same_bits(call(one_channel, all), channel(y));
  const Tensor same_order = call(width_first, all);
  check_same_bits(same_order, y);
  BOOST_TEST((same_order.strides() == width_first[0].strides()));
}

BOOST_AUTO_TEST_CASE(gradients_have_the_same_bits_for_any_thread_count) {
  const int before = num_threads();
  Tensors first;
  for (const int threads : {1, 2, 3, 7}) {
    set_num_threads(threads);
    Tensors x = random_operands({3, 5, 300});
    for (Tensor& operand : x) operand.set_requires_grad(true);
    backward(sum(call(x, all)));
    for (size_t i = 0; i < x.size(); ++i) {
      if (threads == 1) first.push_back(x[i].grad());
      check_same_bits(x[i].grad(), first[i]);
    }
  }
  set_num_threads(before);
}

BOOST_AUTO_TEST_CASE(takes_f32_weights_beside_bf16_signals) {
  const Tensors x = random_operands({2, 3, 50}, DType::bf16);
  Tensors wide = x;
  for (const size_t i : {1, 2}) wide[i] = copy_to(x[i], cpu_device, DType::f32);
  check_same_bits(call(wide, all), call(x, all));
  wide[1].set_requires_grad(true);
  backward(sum(call(wide, all)));
  BOOST_TEST((wide[1].grad().dtype() == DType::f32));
}

BOOST_AUTO_TEST_CASE(the_gradient_of_skip_needs_none_of_the_filter) {
  Tensors x = random_operands({2, 3, 20}, DType::f64);
  x[2].set_requires_grad(true);
  backward(sum(call(x, with_skip)));
  const Array expected = to_array(sum(x[0], {0, 2}));
  check_close(x[2].grad(), expected, {1e-12, 1e-12});
}

BOOST_AUTO_TEST_CASE(counts_its_bytes_and_operations) {
  const Tensors x = random_operands({2, 3, 64});
  count_costs(true);
  const Counters before = counters();
  call(x, none);
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

BOOST_AUTO_TEST_CASE(equals_the_direct_sum_for_every_length_to_4096) {
  for (int64_t n = 1; n <= 4096; ++n) check_length(n);
}

BOOST_AUTO_TEST_CASE(keeps_the_error_that_is_promised_up_to_65536) {
  for (const int64_t n : {16384, 32768, 50000, 65536}) check_length(n);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
