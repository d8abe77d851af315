// SPDX-License-Identifier: Apache-2.0
// What a whole training step promises: no memory from the system once it is warm, the same bits for any number of
// threads, and no kernel that no specification calls.
#include <boost/test/unit_test.hpp>
#include <map>
#include <set>

#include "autograd/backward.hpp"
#include "core/factory.hpp"
#include "core/kernel.hpp"
#include "core/parallel.hpp"
#include "core/runtime.hpp"
#include "nn/models/hyena_moe_lm.hpp"
#include "ops/binary.hpp"
#include "tests/support/op_spec.hpp"
#include "train/optimizer.hpp"

namespace mahia {
namespace {

nn::models::HyenaMoeLMConfig small_model() {
  return {.vocab = 256, .width = 32, .layers = 2, .l_max = 100, .experts = 4, .hidden = 48, .dropout = 0.1};
}

struct Training {
  Training() : model(small_model()), optimizer(model) {}
  void step() {
    const auto out = model.loss(tokens, targets);
    optimizer.zero_grad();
    backward(out.loss + out.aux * 0.02);
    optimizer.clip_grad_norm(1.0);
    optimizer.step(1e-3);
  }
  Tensor tokens = randint(0, 256, {3, 100}), targets = randint(0, 256, {3, 100});
  nn::models::HyenaMoeLM model;
  train::AdamW optimizer;
};

BOOST_AUTO_TEST_SUITE(training)

BOOST_AUTO_TEST_CASE(a_warm_step_takes_no_memory_from_the_system) {
  Training training;
  for (int i = 0; i < 8; ++i) training.step();
  const int64_t before = memory_stats().system_allocations;
  for (int i = 0; i < 10; ++i) training.step();
  BOOST_TEST(memory_stats().system_allocations == before);
  BOOST_TEST(before > 0);
}

BOOST_AUTO_TEST_CASE(five_steps_give_the_same_weights_for_any_number_of_threads) {
  const int threads = num_threads();
  nn::NamedTensors first;
  for (const int n : {1, 2, 3, 7}) {
    set_num_threads(n);
    manual_seed(11);
    Training training;
    for (int i = 0; i < 5; ++i) training.step();
    const nn::NamedTensors state = training.model.state_dict();
    if (first.empty()) first = state;
    for (size_t i = 0; i < state.size(); ++i) {
      BOOST_TEST_CONTEXT(state[i].first << " with " << n << " threads") {
        tests::check_same_bits(state[i].second, first[i].second);
      }
    }
  }
  set_num_threads(threads);
}

BOOST_AUTO_TEST_CASE(every_kernel_is_called_by_some_specification) {
  // Slots of core that no op calls: the core suites test them.
  const std::set<std::string> of_core = {"random_fill", "count_nonfinite", "check_finite", "set_bytes", "commit"};
  std::map<const KernelBase*, int64_t> before;
  for (const KernelBase* kernel : all_kernels()) before[kernel] = kernel->calls();
  tests::run_every_spec_once();
  for (const auto& [kernel, calls] : before) {
    const std::string name = kernel->name();
    if (name.starts_with("test_") || of_core.contains(name)) continue;  // test_*: slots of other tests
    if (!kernel->has(DeviceType::cpu)) continue;
    BOOST_TEST(kernel->calls() > calls, name << ": no case of a specification calls it");
  }
  BOOST_TEST(!before.empty());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia
