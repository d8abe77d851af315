// SPDX-License-Identifier: Apache-2.0
// Kernel slots, counters, random numbers, memory, threads.
#include <dlfcn.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <cmath>
#include <fstream>
#include <mutex>
#include <set>
#include <sstream>
#include <thread>

#include "core/factory.hpp"
#include "core/kernel.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"
#include "ops/binary.hpp"
#include "ops/reduce.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::tests {
namespace {

using Slot = Kernel<void(ConstView, ConstView)>;
constinit Slot missing{"test_missing"};
constinit Slot twice{"test_twice"};
constinit Slot counted{"test_counted", [](const ConstView& a, const ConstView&) {
                         return Cost{40, static_cast<double>(a.rank())};
                       }};

void nothing(ConstView, ConstView) {}
const Registered first(DeviceType::cpu, twice, nothing), second(DeviceType::cpu, twice, nothing);
const Registered counted_registered(DeviceType::cpu, counted, nothing);

// As on a GPU whose kernel cannot start, in a slot that another one calls.
constinit Slot failing{"test_failing"}, calling{"test_calling"};
void cannot_start(ConstView, ConstView) { throw DeviceError("kernel launch: invalid configuration argument"); }
void call_failing(ConstView a, ConstView b) { failing(a, b); }
const Registered failing_registered(DeviceType::cpu, failing, cannot_start);
const Registered calling_registered(DeviceType::cpu, calling, call_failing);

// Sets the number of threads for a scope.
struct Threads {
  explicit Threads(int n) : before(num_threads()) { set_num_threads(n); }
  ~Threads() { set_num_threads(before); }
  int before;
};

ConstView view_on(DeviceType type, const float* value) { return {value, {1}, {1}, DType::f32, Device{type, 0}}; }

BOOST_AUTO_TEST_SUITE(core_kernels)

BOOST_AUTO_TEST_CASE(a_slot_says_what_it_lacks) {
  const float value = 0;
  const ConstView here = view_on(DeviceType::cpu, &value), there = view_on(DeviceType::cuda, &value);
  check_throws<MissingKernel>([&] { missing(here, {}); }, "test_missing: no kernel for cpu; registered for: none");
  check_throws<MissingKernel>([&] { counted(there, there); }, "test_counted: no kernel for cuda; registered for: cpu");
  check_throws<MissingKernel>([&] { twice(here, here); }, "test_twice: registered twice for cpu");
  check_throws<DeviceError>([&] { counted(here, there); },
                            "test_counted: operands are on different devices: f32 [1] cpu:0, f32 [1] cuda:0");
  BOOST_TEST(counted.has(DeviceType::cpu));
  BOOST_TEST(!counted.has(DeviceType::cuda));
}

BOOST_AUTO_TEST_CASE(a_device_error_names_its_slot_when_calls_are_waited_for) {
  const Tensor x = zeros({3});
  check_throws<DeviceError>([&] { calling(x, x); }, "kernel launch: invalid configuration argument");
  waiting_after_calls = true;
  check_throws<DeviceError>([&] { failing(x, x); }, "test_failing: kernel launch: invalid configuration argument");
  check_throws<DeviceError>([&] { calling(x, x); }, "test_failing: kernel launch: invalid configuration argument");
  waiting_after_calls = false;
}

BOOST_AUTO_TEST_CASE(an_undefined_operand_has_no_device) {
  const float value = 0;
  BOOST_CHECK_NO_THROW(counted({}, view_on(DeviceType::cpu, &value)));
}

BOOST_AUTO_TEST_CASE(calls_and_costs_are_counted) {
  const Tensor x = zeros({10});
  reset_counters();
  const int64_t calls = counted.calls();
  counted(x, x);
  count_costs(true);
  counted(x, x);
  count_costs(false);
  add_launches(2);
  const Counters now = counters();
  BOOST_TEST(counted.calls() == calls + 2);
  BOOST_TEST(now.kernel_calls == 2);
  BOOST_TEST(now.launches == 2);
  BOOST_TEST(now.bytes == 40.0);
  BOOST_TEST(now.flops == 1.0);
  reset_counters();
  BOOST_TEST(counters().kernel_calls == 0);
  BOOST_TEST(counters().bytes == 0.0);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(core_random)

BOOST_AUTO_TEST_CASE(philox_gives_the_published_answers) {
  std::ifstream file(MAHIA_SOURCE_DIR "/tests/fixtures/philox4x32_10.txt");
  std::string line;
  int vectors = 0;
  while (std::getline(file, line)) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::array<uint32_t, 10> w{};
    for (uint32_t& word : w) words >> std::hex >> word;
    BOOST_REQUIRE(words);
    const auto result = philox({w[0], w[1], w[2], w[3]}, {w[4], w[5]});
    BOOST_TEST(result == (std::array<uint32_t, 4>{w[6], w[7], w[8], w[9]}), boost::test_tools::per_element());
    ++vectors;
  }
  BOOST_TEST(vectors == 3);
}

BOOST_AUTO_TEST_CASE(the_same_numbers_for_any_thread_count) {
  const RandomCall call{42, 1, 7};
  for (const bool normal : {false, true}) {
    Tensor expected;
    for (const int threads : {1, 2, 3, 7}) {
      const Threads scope(threads);
      const Tensor x = normal ? randn({100003}, call) : rand({100003}, call);
      if (!expected.defined()) expected = x;
      check_same_bits(x, expected);
    }
  }
}

BOOST_AUTO_TEST_CASE(uniform_and_normal_numbers_have_their_moments) {
  const int64_t n = 1000000;
  const double tolerance = 5 / std::sqrt(static_cast<double>(n));  // five standard errors of a unit variance
  const Tensor u = rand({n}, RandomCall{1, 0, 0}, DType::f64), z = randn({n}, RandomCall{2, 0, 0}, DType::f64);
  BOOST_TEST(amin(u).item<double>() >= 0.0);
  BOOST_TEST(amax(u).item<double>() < 1.0);
  BOOST_TEST(std::fabs(mean(u).item<double>() - 0.5) < tolerance);
  BOOST_TEST(std::fabs(var(u).item<double>() - 1.0 / 12) < tolerance);
  BOOST_TEST(std::fabs(mean(z).item<double>()) < tolerance);
  BOOST_TEST(std::fabs(var(z).item<double>() - 1) < 2 * tolerance);
  BOOST_TEST(std::fabs(mean(pow(z, 3.0)).item<double>()) < 4 * tolerance);
  BOOST_TEST(std::fabs(mean(pow(z, 4.0)).item<double>() - 3) < 10 * tolerance);
}

BOOST_AUTO_TEST_CASE(a_seed_starts_every_stream_again) {
  const uint64_t seed = random_seed();
  manual_seed(11);
  const Tensor a = randn({5}), b = randn({5});
  const uint64_t key = random_key("layer.0", "dropout");
  BOOST_TEST(next_random_call(key).call == 0);
  BOOST_TEST(next_random_call(key).call == 1);
  manual_seed(11);
  check_same_bits(randn({5}), a);
  check_same_bits(randn({5}), b);
  BOOST_TEST(next_random_call(key).call == 0);
  set_random_step(3);
  BOOST_TEST(next_random_call(key).call == 0);
  BOOST_TEST(next_random_call(key).step == 3u);
  BOOST_TEST(random_key("layer.0", "dropout") == key);
  BOOST_TEST(random_key("layer.1", "dropout") != key);
  BOOST_TEST(random_key("layer.0", "init") != key);
  manual_seed(12);
  BOOST_TEST(random_key("layer.0", "dropout") != key);
  BOOST_TEST(randn({5}).to_vector<float>()[0] != a.to_vector<float>()[0]);
  manual_seed(seed);
}

BOOST_AUTO_TEST_CASE(random_integers_stay_in_their_range_and_reach_its_ends) {
  const auto values = randint(-2, 3, {2000}).to_vector<int64_t>();
  BOOST_TEST((std::set<int64_t>(values.begin(), values.end()) == std::set<int64_t>{-2, -1, 0, 1, 2}));
  check_throws<ValueError>([] { randint(3, 3, {1}); }, "randint: empty range [3, 3)");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(core_memory)

BOOST_AUTO_TEST_CASE(the_same_work_again_asks_the_system_for_nothing) {
  const Tensor x = randn({300, 1000});
  const auto work = [&] { return sum(mul(add(x, 1), x), {0}); };
  for (int i = 0; i < 3; ++i) work();
  const MemoryStats before = memory_stats();
  for (int i = 0; i < 10; ++i) work();
  const MemoryStats after = memory_stats();
  BOOST_TEST(after.system_allocations == before.system_allocations);
  BOOST_TEST(after.allocated == before.allocated);
  BOOST_TEST(after.peak >= after.allocated);
}

BOOST_AUTO_TEST_CASE(an_emptied_cache_gives_memory_back) {
  { const Tensor large = zeros({1 << 20}); }
  const MemoryStats before = memory_stats();
  empty_cache();
  const MemoryStats after = memory_stats();
  BOOST_TEST(after.reserved <= before.reserved - (4 << 20));
  BOOST_TEST(after.reserved >= after.allocated);
}

BOOST_AUTO_TEST_CASE(scratch_nests_and_is_aligned) {
  const Scratch outer(cpu_device, 1000);
  auto* bytes = outer.data<unsigned char>();
  std::fill_n(bytes, 1000, static_cast<unsigned char>(7));
  for (const size_t size : {size_t{0}, size_t{1}, size_t{3000}, size_t{5} << 20}) {  // the last outgrows a chunk
    const Scratch inner(cpu_device, size), beside(cpu_device, 64);
    BOOST_TEST(reinterpret_cast<uintptr_t>(inner.data<char>()) % 256 == 0u);
    BOOST_TEST(beside.data<void>() != inner.data<void>());
    std::fill_n(inner.data<unsigned char>(), size, static_cast<unsigned char>(9));
  }
  BOOST_TEST(std::count(bytes, bytes + 1000, 7) == 1000);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(core_parallel)

BOOST_AUTO_TEST_CASE(every_row_is_visited_once_in_tiles_that_do_not_depend_on_the_threads) {
  std::set<std::pair<int64_t, int64_t>> expected;
  for (const int threads : {1, 2, 5}) {
    const Threads scope(threads);
    std::mutex mutex;
    std::set<std::pair<int64_t, int64_t>> tiles;
    parallel_rows(103, 10, [&](int64_t begin, int64_t end) {
      const std::scoped_lock lock(mutex);
      BOOST_TEST(tiles.insert({begin, end}).second);
    });
    if (expected.empty()) expected = tiles;
    BOOST_TEST((tiles == expected));
    BOOST_TEST(tiles.size() == 11u);
    BOOST_TEST(tiles.contains({100, 103}));
  }
}

BOOST_AUTO_TEST_CASE(an_exception_of_a_body_reaches_the_caller) {
  for (const int threads : {1, 4}) {
    const Threads scope(threads);
    const auto run = [] {
      parallel_rows(100, 1, [](int64_t begin, int64_t) { check<ValueError>(begin != 57, "row ", begin); });
    };
    check_throws<ValueError>(run, "row 57");
    std::atomic<int> rows{0};
    parallel_rows(100, 1, [&](int64_t, int64_t) { ++rows; });
    BOOST_TEST(rows == 100);
  }
}

BOOST_AUTO_TEST_CASE(a_loop_inside_a_loop_keeps_scratch_apart) {
  const Threads scope(4);
  std::atomic<int> wrong{0};
  parallel_rows(64, 1, [&](int64_t row, int64_t) {
    const Scratch mine(cpu_device, 4096);
    std::fill_n(mine.data<int64_t>(), 512, row);
    parallel_rows(16, 1, [&](int64_t, int64_t) {
      const Scratch inner(cpu_device, 4096);
      std::fill_n(inner.data<int64_t>(), 512, int64_t{-1});
    });
    wrong += static_cast<int>(512 - std::count(mine.data<int64_t>(), mine.data<int64_t>() + 512, row));
  });
  BOOST_TEST(wrong == 0);
}

BOOST_AUTO_TEST_CASE(the_number_of_threads_is_set_and_checked) {
  {
    const Threads scope(3);
    BOOST_TEST(num_threads() == 3);
  }
  check_throws<ValueError>([] { set_num_threads(0); }, "set_num_threads: 0, must be at least 1");
  check_throws<ValueError>([] { parallel_rows(4, 0, [](int64_t, int64_t) {}); },
                           "parallel_rows: tile is 0, must be at least 1");
}

// Without OpenMP in the process no second pool of threads can fight with ours for the cores.
BOOST_AUTO_TEST_CASE(no_openmp_runtime_is_loaded) { BOOST_TEST(dlsym(RTLD_DEFAULT, "omp_get_max_threads") == nullptr); }

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::tests
