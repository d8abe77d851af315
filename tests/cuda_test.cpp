// SPDX-License-Identifier: Apache-2.0
// What the CUDA backend promises as a whole; needs `mahia-tests -- --device cuda`. The ops' values are in the specs.
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <thread>

#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/graph.hpp"
#include "core/random.hpp"
#include "core/runtime.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/compare.hpp"
#include "ops/index.hpp"
#include "ops/linear.hpp"
#include "ops/moe.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "tests/support/device.hpp"
#include "tests/support/op_spec.hpp"
#include "train/step_state.hpp"

namespace mahia {
namespace {

using tests::BatchInvariant;
using tests::check_same_bits;
using tests::check_throws;
using tests::NeedsCuda;
using tests::tested_device;

BOOST_AUTO_TEST_SUITE(cuda)

BOOST_AUTO_TEST_CASE(a_device_that_is_not_there_is_one_clear_sentence) {
  const int count = device_count(DeviceType::cuda);
  if (!has_runtime(DeviceType::cuda)) {
    check_throws<DeviceError>(
        [] {
          zeros({2}, DType::f32, {DeviceType::cuda, 0});
        },
        "cuda: this build of mahia has no cuda backend");
  } else if (count == 0) {
    check_throws<DeviceError>(
        [] {
          zeros({2}, DType::f32, {DeviceType::cuda, 0});
        },
        "cuda:0: this machine has no CUDA device that can be used: ");
  } else {
    check_throws<DeviceError>(
        [] {
          zeros({2}, DType::f32, {DeviceType::cuda, 15});
        },
        message("cuda:15: this machine has ", count, " CUDA device(s)"));
  }
}

BOOST_AUTO_TEST_CASE(values_travel_both_ways, *boost::unit_test::precondition(NeedsCuda())) {
  const Tensor here = randn({1000, 7}), there = copy_to(here, tested_device(), DType::f32);
  check_same_bits(copy_to(there, cpu_device, DType::f32), here);
  BOOST_TEST(Tensor::from({1.5}, {1}, tested_device()).item<double>() == 1.5);
}

BOOST_AUTO_TEST_CASE(the_random_stream_is_the_same_on_every_device, *boost::unit_test::precondition(NeedsCuda())) {
  const RandomCall call{123, 4, 5};
  check_same_bits(rand({1001}, call, DType::f32, tested_device()), rand({1001}, call));
  const auto a = randn({1001}, call, DType::f32, tested_device()).to_vector<float>();
  const auto b = randn({1001}, call).to_vector<float>();
  for (size_t i = 0; i < a.size(); ++i)
    BOOST_TEST(std::abs(a[i] - b[i]) <= 2 * std::abs(std::nextafter(b[i], 9.0f) - b[i]));
}

BOOST_AUTO_TEST_CASE(bad_data_is_reported_at_the_next_wait_and_forgotten,
                     *boost::unit_test::precondition(NeedsCuda())) {
  const Device device = tested_device();
  const Tensor weight = ones({4, 3}, DType::f32, device);
  const Tensor ids = Tensor::from({int64_t{0}, int64_t{3}, int64_t{9}}, {3}, device);
  check_throws<IndexError>([&] { embedding(ids, weight).to_vector<float>(); },
                           "embedding: index 9 at position 2 is outside [0, 4)");
  BOOST_TEST(sum(embedding(Tensor::from({int64_t{1}}, {1}, device), weight)).item<double>() == 3.0);
  check_throws<IndexError>(
      [&] {
        moe_plan(Tensor::from({int64_t{0}, int64_t{-2}}, {1, 2}, device), 4).counts.to_vector<int64_t>();
      },
      "moe_plan: expert -2 at position 1 is outside [0, 4)");
}

BOOST_AUTO_TEST_CASE(too_little_memory_is_an_exception_after_which_all_goes_on,
                     *boost::unit_test::precondition(NeedsCuda())) {
  const Device device = tested_device();
  check_throws<OutOfMemoryError>([&] { empty({int64_t{1} << 42}, DType::u8, device); },
                                 "cuda:0: out of memory: wanted 4398046511104 bytes; free on the device ");
  set_memory_limit(device, static_cast<size_t>(memory_stats(device).reserved) + (size_t{64} << 20));
  check_throws<OutOfMemoryError>([&] { empty({int64_t{1} << 30}, DType::u8, device); }, "limit ");
  set_memory_limit(device, 0);
  BOOST_TEST(ones({3}, DType::f32, device).to_vector<float>().size() == 3u);
}

BOOST_AUTO_TEST_CASE(more_elements_than_32_bits_count, *boost::unit_test::precondition(NeedsCuda())) {
  const int64_t n = (int64_t{1} << 31) + 77;
  const Tensor ones = full({n}, 1, DType::bf16, tested_device()), twos = ones + 1.0;
  const auto all_two = [&](const Tensor& x) { return sum(eq(x, 2.0)).item<int64_t>() == x.numel(); };
  BOOST_TEST(all_two(twos));
  BOOST_TEST(all_two(clone(twos)));
  BOOST_TEST(all_two(mul(ones, add(ones, ones))));
  const Tensor odd(twos.storage(), {n / 2, 2}, {2, 1}, 0, DType::bf16);  // transposed: strides, no merging
  BOOST_TEST(all_two(clone(transpose(odd, 0, 1))));
  empty_cache(tested_device());
}

// A row of x times a weight, alone and among others, in either order in memory.
BOOST_AUTO_TEST_CASE(a_product_has_the_same_bits_in_any_batch_and_order_if_asked,
                     *boost::unit_test::precondition(NeedsCuda())) {
  const BatchInvariant scope;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    for (const int64_t width : {1, 40, 51, 128, 1000}) {
      const auto random = [&](const Shape& shape) { return to(randn(shape, DType::f32, tested_device()), dtype); };
      const Tensor x = random({3, 97, width}), weight = random({72, width}), bias = random({72});
      const Tensor all = linear(x, weight, bias);
      const Tensor swapped = linear_to_channels(x, weight, bias);  // (72, 3, 97)
      check_same_bits(contiguous(transpose(transpose(swapped, 0, 1), 1, 2)), all);
      const Tensor across = contiguous(transpose(transpose(x, 1, 2), 0, 1));  // (width, 3, 97)
      check_same_bits(linear_from_channels(across, weight, bias), all);
      for (const int64_t row : {0, 50, 96}) {
        const Tensor alone = contiguous(narrow(narrow(x, 0, 1, 1), 1, row, 1));
        check_same_bits(linear(alone, weight, bias), contiguous(narrow(narrow(all, 0, 1, 1), 1, row, 1)));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(a_few_bytes_travel_with_a_call, *boost::unit_test::precondition(NeedsCuda())) {
  const Tensor x = zeros({5}, DType::i32, tested_device());
  kernels::FewBytes bytes{};
  bytes[0] = std::byte{7};
  bytes[16] = std::byte{9};
  bytes[20] = std::byte{1};  // beyond x
  kernels::set_bytes(x.mutable_view(), bytes);
  check_same_bits(copy_to(x, cpu_device, DType::i32), Tensor::from({7, 0, 0, 0, 9}, {5}));
}

BOOST_AUTO_TEST_CASE(a_commit_writes_nothing_after_a_fault, *boost::unit_test::precondition(NeedsCuda())) {
  const Tensor x = zeros({5}, DType::f64, tested_device());
  commit(full({5}, 2, DType::f32, tested_device()), x);
  check_same_bits(copy_to(x, cpu_device, DType::f64), full({5}, 2, DType::f64));
  kernels::check_finite(full({1}, NAN, DType::f32, tested_device()), "the test");
  commit(full({5}, 3, DType::f64, tested_device()), x);
  tests::check_throws<ValueError>([&] { synchronize(tested_device()); }, "the test 0 is nan");
  check_same_bits(copy_to(x, cpu_device, DType::f64), full({5}, 2, DType::f64));
}

BOOST_AUTO_TEST_CASE(a_step_that_reads_its_values_cannot_be_captured, *boost::unit_test::precondition(NeedsCuda())) {
  const Tensor x = ones({3}, DType::f32, tested_device());
  StepGraph graph(tested_device());
  const auto step = [&] { sum(x * 2).item<float>(); };
  graph.run(step);
  graph.run(step);
  check_throws<CaptureError>([&] { graph.run(step); },
                             "capture: a step that is recorded cannot read values on the host");
  BOOST_TEST(sum(x).item<float>() == 3.0f);
}

BOOST_AUTO_TEST_CASE(a_step_inside_a_step_is_refused, *boost::unit_test::precondition(NeedsCuda())) {
  const Tensor x = ones({3}, DType::f32, tested_device());
  StepGraph outer(tested_device()), inner(tested_device());
  for (int i = 0; i < 3; ++i) {  // while the outer one warms up and while it records
    check_throws<CaptureError>([&] { outer.run([&] { inner.run([&] { x * 2; }); }); },
                               "StepGraph: a step cannot run inside another one");
  }
  train::StepState state({}, tested_device());
  StepGraph graph(tested_device());
  check_throws<CaptureError>([&] { graph.run([&] { state.advance(3); }); },
                             "StepState: advance() inside a step that is captured");
  BOOST_TEST(!StepGraph::is_running());
}

// A graph's memory is asked for by the thread that runs it; tensors that another one makes meanwhile are not in it.
BOOST_AUTO_TEST_CASE(a_graph_keeps_only_its_own_threads_memory, *boost::unit_test::precondition(NeedsCuda())) {
  const NoGrad no_grad;
  const Tensor x = ones({1 << 20}, DType::f32, tested_device());
  Tensor mine, other;
  {
    StepGraph graph(tested_device());
    graph.run([&] {
      mine = empty({1 << 20}, DType::f32, tested_device());
      std::thread([&] { other = empty({1 << 20}, DType::f32, tested_device()); }).join();
      copy_into(x * 2, mine);
    });
    graph.run([&] { copy_into(x * 3, mine); });
    copy_into(x * 7, other);
    graph.run([&] { copy_into(x * 4, mine); });
    for (int i = 0; i < 3; ++i) BOOST_TEST(graph.run([] {}));
    BOOST_TEST(sum(mine).item<float>() == 4.0f * (1 << 20));
    BOOST_TEST(sum(other).item<float>() == 7.0f * (1 << 20));
  }
}

BOOST_AUTO_TEST_CASE(too_little_memory_while_recording_is_an_error_at_once,
                     *boost::unit_test::precondition(NeedsCuda())) {
  const Tensor x = ones({3}, DType::f32, tested_device());
  StepGraph graph(tested_device());
  bool greedy = false;
  const auto step = [&] {
    const Tensor y = x * 2;
    if (greedy) empty({int64_t{1} << 44}, DType::f32, tested_device());
  };
  graph.run(step);
  graph.run(step);
  greedy = true;
  check_throws<OutOfMemoryError>([&] { graph.run(step); }, "out of memory: wanted ");
  BOOST_TEST(sum(x).item<float>() == 3.0f);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia
