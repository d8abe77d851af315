// SPDX-License-Identifier: Apache-2.0
// What the Hyena operator means: filters on their grid, causality, independence of batch and threads.
#include <boost/test/unit_test.hpp>

#include "autograd/backward.hpp"
#include "autograd/gradcheck.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/parallel.hpp"
#include "nn/hyena.hpp"
#include "ops/cat.hpp"
#include "ops/hyena_conv.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/fixture.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::nn {
namespace {

using tests::check_names;
using tests::check_near;
using tests::check_same_bits;
using tests::check_throws;
using tests::Fixture;

HyenaFilterConfig small_filter(int64_t order, int64_t embedding, int64_t l_max, double shift = 0) {
  return {.l_max = l_max,
          .channels = 4,
          .order = order,
          .embedding = embedding,
          .hidden = 8,
          .train_positions = true,
          .shift = shift};
}

// Frequency 1, so that f32 keeps its digits behind the sines.
HyenaConfig small_operator(int64_t order, int64_t l_max = 40) {
  return {.width = 4, .l_max = l_max, .order = order, .filter = {.embedding = 5, .hidden = 8, .sine_frequency = 1}};
}

// u with everything from time `start` on replaced by large numbers.
Tensor with_other_future(const Tensor& u, int64_t start) {
  const Tensor future = full({u.size(0), u.size(1) - start, u.size(2)}, 3, u.dtype());
  return cat({narrow(u, 1, 0, start), future}, 1);
}

BOOST_AUTO_TEST_SUITE(hyena)

BOOST_AUTO_TEST_CASE(filters_agree_with_pytorch) {
  struct Case {
    int64_t order, embedding, time, l_max;
    double shift;
  };
  for (const Case& c : {Case{2, 3, 16, 16, 0}, Case{2, 33, 20, 20, 0}, Case{3, 5, 7, 20, 0}, Case{4, 5, 16, 16, 0.05},
                        Case{2, 5, 1, 1, 0}}) {
    const std::string name =
        message("hyena_filter_order", c.order, "_emb", c.embedding, "_length", c.time, "_of_", c.l_max);
    BOOST_TEST_CONTEXT(name) {
      const Fixture f(name);
      HyenaFilter filter(small_filter(c.order, c.embedding, c.l_max, c.shift));
      if (c.order == 3) check_names(filter, name);
      const NamedTensors built = filter.state_dict();
      for (const auto& [key, tensor] : built) {  // before they are loaded; PyTorch rounds the angles of z to f32
        const bool computed = key.starts_with("pos_emb") || key.starts_with("modulation");
        if (computed) check_near(tensor, f["state." + key], key == "pos_emb.z" ? 1e-5 : 1e-6, key);
      }
      filter.load_state_dict(f.state());
      const Tensor h = transpose(reshape(filter(c.time), {-1, c.time}), 0, 1);  // (T, D (N-1))
      check_near(h, f["output.y"], 1e-5, "y");
      backward({h}, {f["grad_output"]});
      tests::check_gradients(filter, f, "grad.state.", 5e-5);
    }
  }
}

BOOST_AUTO_TEST_CASE(names_are_pytorchs) {
  HyenaConfig c{.width = 4, .l_max = 20, .order = 2, .filter = small_filter(2, 33, 20)};
  check_names(HyenaOperator(c), "hyena_operator_order2_emb33_length20_of_20");
  c.order = 3;
  c.filter.embedding = 3;
  check_names(HyenaOperator(c), "hyena_operator_order3_emb3_length20_of_20");
}

BOOST_AUTO_TEST_CASE(a_shorter_filter_is_the_beginning_of_a_longer_one) {
  for (const int64_t order : {2, 3}) {
    const HyenaFilter filter(small_filter(order, 5, 20));
    const Tensor whole = filter(20);
    for (const int64_t time : {1, 7, 19}) check_same_bits(filter(time), contiguous(narrow(whole, 2, 0, time)));
  }
}

BOOST_AUTO_TEST_CASE(sequences_that_do_not_fit_are_refused) {
  const HyenaOperator op(small_operator(2, 8));
  check_throws<ValueError>(
      [&] {
        op(randn({1, 9, 4}));
      },
      "HyenaFilter: 9 time steps exceed l_max 8; build the model with a larger l_max");
  check_throws<ShapeError>([&] { op(randn({2, 0, 4})); }, "with T >= 1, got f32 [2, 0, 4] cpu:0");
  check_throws<ShapeError>(
      [&] {
        op(randn({9, 4}));
      },
      "HyenaOperator: needs (B, T, 4) with T >= 1, got f32 [9, 4] cpu:0");
  check_throws<ShapeError>(
      [&] {
        op(randn({1, 8, 5}));
      },
      "HyenaOperator: needs (B, T, 4) with T >= 1, got f32 [1, 8, 5] cpu:0");
}

BOOST_AUTO_TEST_CASE(options_that_make_no_filter_are_named) {
  check_throws<ValueError>([] { HyenaFilter(small_filter(1, 5, 8)); }, "order is 1, must be at least 2");
  check_throws<ValueError>([] { HyenaFilter(small_filter(2, 4, 8)); }, "embedding is 4, must be odd and at least 3");
  check_throws<ValueError>([] { HyenaFilter(small_filter(2, 5, 0)); }, "l_max 0, channels 4, hidden 8 must be");
  check_throws<ValueError>([] { HyenaOperator(small_operator(1)); }, "order is 1, must be at least 2");
}

BOOST_AUTO_TEST_CASE(the_operator_does_not_see_the_future) {
  for (const int64_t order : {2, 3, 4}) {
    const HyenaOperator op(small_operator(order));
    for (const int64_t time : {5, 40}) {
      const int64_t start = time / 2;
      BOOST_TEST_CONTEXT("order " << order << ", " << time << " steps") {
        Tensor u = randn({2, time, 4}).set_requires_grad(true);
        const Tensor y = op(u), other = op(with_other_future(u.detach(), start));
        check_near(narrow(other, 1, 0, start), narrow(y, 1, 0, start), 2e-6, "the past");
        BOOST_TEST(tests::to_array(narrow(other, 1, start, 1)).values !=
                   tests::to_array(narrow(y, 1, start, 1)).values);

        const Tensor past = narrow(y, 1, 0, start);
        backward({past}, {randn(past.shape())});
        const Tensor du = u.grad();
        const double largest = amax(abs(du)).item<double>();
        BOOST_TEST(amax(abs(narrow(du, 1, start, time - start))).item<double>() <= 1e-6 * largest);
        BOOST_TEST(amin(amax(abs(narrow(du, 1, 0, start)), {0, 2})).item<double>() > 1e-6 * largest);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(gradients_equal_central_differences) {
  for (const int64_t order : {2, 3, 4}) {
    HyenaOperator op(small_operator(order, 6));
    op.to(DType::f64);
    Tensor u = randn({2, 5, 4}, DType::f64).set_requires_grad(true);
    BOOST_CHECK_NO_THROW(gradcheck([&](const Tensors& x) { return op(x[0]); }, {u}));
  }
}

BOOST_AUTO_TEST_CASE(a_sequence_gives_the_same_bits_in_any_batch) {
  for (const int64_t order : {2, 3}) {
    const HyenaOperator op(small_operator(order));
    const Tensor u = randn({5, 33, 4}), y = op(u);
    for (const int64_t b : {0, 2, 4}) check_same_bits(op(narrow(u, 0, b, 1)), contiguous(narrow(y, 0, b, 1)));
  }
}

BOOST_AUTO_TEST_CASE(the_number_of_threads_changes_no_bit) {
  const HyenaOperator op(small_operator(3));
  const Tensor values = randn({3, 40, 4}), dy = randn({3, 40, 4});
  const int before = num_threads();
  Tensors first;
  for (const int threads : {1, 2, 3, 7}) {
    set_num_threads(threads);
    for (const Tensor& p : op.parameters()) p.set_grad({});
    Tensor u = clone(values).set_requires_grad(true);
    Tensors all = {op(u)};
    backward({all[0]}, {dy});
    all.push_back(u.grad());
    for (const Tensor& p : op.parameters()) all.push_back(p.grad());
    if (first.empty()) first = all;
    for (size_t i = 0; i < all.size(); ++i) check_same_bits(all[i], first[i]);
  }
  set_num_threads(before);
}

// A mask, even one that leaves out nothing, has conv1d write the filtered signals and long_conv read them.
BOOST_AUTO_TEST_CASE(filtering_signals_as_they_are_read_changes_no_bit) {
  for (const int64_t order : {2, 3, 4}) {
    for (const ConvAlgorithm algorithm : {ConvAlgorithm::fft, ConvAlgorithm::dyadic, ConvAlgorithm::direct}) {
      for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
        HyenaConfig c = small_operator(order, 150);
        c.algorithm = algorithm;
        HyenaOperator op(c);
        op.to(dtype);
        const Tensor values = randn({3, 150, 4}, dtype), dy = randn({3, 150, 4}, dtype);
        const auto run = [&](const Tensor& mask) {
          for (const Tensor& p : op.parameters()) p.set_grad({});
          Tensor u = clone(values).set_requires_grad(true);
          Tensors all = {op(u, {.mask = mask})};
          backward({all[0]}, {dy});
          all.push_back(u.grad());
          for (const Tensor& p : op.parameters()) all.push_back(p.grad());
          return all;
        };
        const int64_t calls = kernels::hyena_conv.calls();
        const Tensors fused = run({});
        BOOST_TEST(kernels::hyena_conv.calls() - calls == order - 1);
        const Tensors composed = run(full({3, 150}, 1, DType::boolean));
        BOOST_TEST(kernels::hyena_conv.calls() - calls == order - 1);
        for (const size_t i : {0, 1}) check_same_bits(fused[i], composed[i]);
        for (size_t i = 2; i < fused.size(); ++i) {
          check_near(fused[i], composed[i], dtype == DType::bf16 ? 2e-2 : 1e-5, "gradient of a parameter");
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(dropout_acts_while_training_only) {
  HyenaConfig c = small_operator(3);
  HyenaOperator plain(c);
  c.dropout = 0.5;
  HyenaOperator dropping(c);
  dropping.load_state_dict(plain.state_dict());
  const Tensor u = randn({2, 9, 4});
  BOOST_TEST(tests::to_array(dropping(u)).values != tests::to_array(plain(u)).values);
  dropping.eval();
  check_near(dropping(u), plain(u), 1e-6, "y");
}

BOOST_AUTO_TEST_CASE(short_inputs_and_empty_batches_keep_their_shape) {
  const HyenaOperator op(small_operator(3));
  for (const Shape& shape : {Shape{1, 1, 4}, Shape{0, 3, 4}}) {
    Tensor u = randn(shape).set_requires_grad(true);
    const Tensor y = op(u);
    BOOST_TEST((y.shape() == shape));
    backward(sum(y));
    BOOST_TEST((u.grad().shape() == shape));
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
