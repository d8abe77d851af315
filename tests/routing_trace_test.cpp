// SPDX-License-Identifier: Apache-2.0
// Recording what routers choose, choosing it again, and asking what other settings would have met with.
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>

#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/random.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "tests/support/op_spec.hpp"
#include "tests/support/temporary_folder.hpp"
#include "tests/support/tiny_run.hpp"
#include "train/safetensors.hpp"
#include "train/what_if.hpp"

namespace mahia::train {
namespace {

using tests::check_same_bits;
using tests::check_throws;
using tests::TemporaryFolder;
namespace tt = boost::test_tools;

struct Run {
  nn::NamedTensors state;
  std::vector<std::vector<int64_t>> pairs;  // of the first layer in each step
};

Run run_to(int64_t steps, uint64_t seed, const std::string& record, const std::string& replay) {
  manual_seed(seed);
  nn::models::HyenaMoeLM model(tests::tiny_config());
  AdamW optimizer(model);
  const Tensor ids = to(rand({12, 32}, {random_key("tests", "ids"), 0, 0}) * 128.0, DType::i64);
  Run run;
  TrainerOptions options{.steps = steps, .micro_batches = 2, .log_every = 1};
  options.record_routing = record;
  options.replay_routing = replay;
  options.schedules.lr.peak = 0.01;
  options.on_step = [&](const Progress& p) { run.pairs.push_back(p.record->layers[0].pairs); };
  Trainer(model, optimizer, std::make_shared<TensorBatches>(ids, ids, 4, 1), options).run();
  run.state = model.state_dict();
  return run;
}

Tensor choices(const std::vector<int64_t>& indices, int64_t k) {
  return Tensor::from(indices, {std::ssize(indices) / k, k});
}

BOOST_AUTO_TEST_SUITE(routing_trace)

BOOST_AUTO_TEST_CASE(a_replayed_run_has_the_bits_of_the_recorded_one) {
  const TemporaryFolder folder;
  const Run plain = run_to(4, 3, "", ""), recorded = run_to(4, 3, folder / "trace", "");
  const Run replayed = run_to(4, 3, folder / "again", folder / "trace");
  for (size_t i = 0; i < plain.state.size(); ++i) {
    BOOST_TEST_CONTEXT(plain.state[i].first) {
      check_same_bits(recorded.state[i].second, plain.state[i].second);
      check_same_bits(replayed.state[i].second, plain.state[i].second);
    }
  }
  BOOST_TEST((routed_steps(folder / "trace") == std::vector<int64_t>{1, 2, 3, 4}));
  for (const int64_t step : {1, 4}) {
    const RoutedStep a = load_routing(folder / "trace", step), b = load_routing(folder / "again", step);
    BOOST_REQUIRE((a.micro_batch_count == 2 && a.layers() == 2 && a.choices.size() == 4u));
    for (size_t i = 0; i < 4; ++i) check_same_bits(a.choices[i].indices, b.choices[i].indices);
  }
}

BOOST_AUTO_TEST_CASE(another_model_is_routed_as_the_trace_says) {
  const TemporaryFolder folder;
  const Run recorded = run_to(3, 3, folder / "trace", ""), own = run_to(3, 4, "", "");
  const Run replayed = run_to(3, 4, "", folder / "trace");
  BOOST_TEST((replayed.pairs == recorded.pairs));
  BOOST_TEST((own.pairs != recorded.pairs));
}

BOOST_AUTO_TEST_CASE(a_trace_that_does_not_fit_is_refused) {
  const TemporaryFolder folder;
  run_to(2, 3, folder / "trace", "");
  check_throws<IoError>([&] { run_to(3, 3, "", folder / "trace"); }, "step-00000003.safetensors");
  check_throws<IoError>([&] { routed_steps(folder / "none"); }, "none: no folder of recorded routing");
  check_throws<IoError>([&] { routed_steps(folder.path()); }, "no recorded routing here");

  const nn::RouterChoices few = {{choices({0, 1, 1, 0}, 2), 2}};
  nn::Router router({.width = 3, .num_experts = 2, .top_k = 2});
  const Tensor x = ones({2, 3});
  {
    const nn::ReplayedRouting replaying(few);
    check_throws<ValueError>([&] { replaying.check_used_up(); }, "routing: 1 choices to replay, the routers took 0");
    check_same_bits(router(x).indices, few[0].indices);
    replaying.check_used_up();
    check_throws<ValueError>([&] { router(x); }, "Router: only 1 choices to replay");
  }
  const auto refused = [&]<class E>(const nn::RouterChoice& choice, const std::string& text, const E&) {
    const nn::RouterChoices all = {choice};
    const nn::ReplayedRouting replaying(all);
    check_throws<E>([&] { router(x); }, text);
  };
  refused({choices({0, 1}, 2), 2}, "Router: the choice to replay must be (N, k) = (2, 2), got i64 [1, 2]",
          ShapeError(""));
  refused({choices({0, 1, 1, 0}, 2), 3}, "among 3 experts, the router has 2", ValueError(""));
}

BOOST_AUTO_TEST_CASE(a_damaged_trace_is_refused) {
  const TemporaryFolder folder;
  const std::string path = folder / "step-00000001.safetensors";
  const Metadata good = {{"micro_batches", "1"}, {"layers", "1"}, {"experts.0", "4"}};
  const auto refused = [&](const nn::NamedTensors& tensors, const Metadata& metadata, const std::string& text) {
    std::filesystem::remove(path);
    save_safetensors(path, tensors, metadata);
    check_throws<IoError>([&] { load_routing(folder.path(), 1); }, text);
  };
  const Tensor fits = choices({0, 1, 2, 3}, 2);
  refused({{"0.0", choices({0, 4}, 2)}}, good, "0.0: must be (N, k) experts below 4, is i64 [1, 2]");
  refused({{"0.0", choices({0, -1}, 2)}}, good, "must be (N, k) experts below 4");
  refused({{"0.0", fits}}, {{"layers", "1"}}, "has no whole number `micro_batches`");
  refused({{"0.0", fits}}, {{"micro_batches", "0"}, {"layers", "1"}}, "1 tensors for 0 micro-batches");
  refused({{"1.0", fits}}, good, "has no tensor `0.0`");
  refused({{"0.0", fits}}, {{"micro_batches", "1"}, {"layers", "1"}, {"experts.0", "4x"}},
          "no whole number `experts.0`");
}

// Two micro-batches of four tokens, k = 2, four experts.
BOOST_AUTO_TEST_CASE(the_report_counts_what_would_have_been_dropped) {
  const TemporaryFolder folder;
  save_routing(folder.path(),
               {1, 2, {{choices({0, 1, 0, 1, 0, 1, 0, 2}, 2), 4}, {choices({0, 1, 2, 0, 1, 2, 2, 1}, 2), 4}}});
  const std::vector<WhatIf> layers = what_if(folder.path(), {.capacities = {1, 1.5, 2}, .devices = {1, 2, 3}});
  BOOST_REQUIRE(layers.size() == 1u);
  const WhatIf& w = layers[0];
  BOOST_TEST((w.num_experts == 4 && w.top_k == 2 && w.pairs == std::vector<int64_t>{6, 6, 4, 0} && w.unused == 1));
  BOOST_TEST(w.max_violation == (1.0 + 0.5) / 2, tt::tolerance(1e-12));
  // Slots 2: counts (4, 3, 1, 0) lose 2 + 1 of 8, (2, 3, 3, 0) lose 1 + 1; slots 3: 1 and 0; slots 4: none.
  BOOST_TEST(w.capacities[0].drop_rate == (3.0 / 8 + 2.0 / 8) / 2, tt::tolerance(1e-12));
  BOOST_TEST(w.capacities[1].drop_rate == 1.0 / 16, tt::tolerance(1e-12));
  BOOST_TEST(w.capacities[2].drop_rate == 0);
  // First choices 0, 0, 0, 0 lose two either way. 0, 2, 1, 2: by position expert 2 serves token 1 and, as a second
  // choice, token 2, so that token 3's first choice finds no room; choice-major it does.
  BOOST_TEST(w.capacities[0].first_by_position == (0.5 + 0.25) / 2, tt::tolerance(1e-12));
  BOOST_TEST(w.capacities[0].first_by_choice_major == 0.25, tt::tolerance(1e-12));
  // In order: (0, 1 | 2, 3) has (7, 1) and (5, 3). By load 6, 6, 4, 0: (0, 3 | 1, 2) has (4, 4) and (2, 6).
  BOOST_TEST((placed_by_load(w.pairs, 2) == std::vector<int64_t>{0, 1, 0, 1} ||
              placed_by_load(w.pairs, 2) == std::vector<int64_t>{0, 1, 1, 0}));
  BOOST_TEST(w.devices[0].in_order == 0);
  BOOST_TEST(w.devices[1].in_order == (0.75 + 0.25) / 2, tt::tolerance(1e-12));
  BOOST_TEST(to_table(layers).find("capacity 1     drops  31.25 % of the pairs") != std::string::npos,
             to_table(layers));
  BOOST_TEST(to_json(layers).find("\"drop_rate\":0.3125") != std::string::npos);
  check_throws<ValueError>([&] { what_if(folder.path(), {.devices = {0}}); }, "must be at least 1");
  check_throws<ValueError>([&] { what_if(folder.path(), {.capacities = {0}}); }, "must be from 1e-6 to 1e6");
}

BOOST_AUTO_TEST_CASE(experts_are_placed_by_load_with_equal_room) {
  BOOST_TEST((placed_by_load({9, 1, 1, 1}, 2) == std::vector<int64_t>{0, 1, 1, 0}));
  BOOST_TEST((placed_by_load({5, 5, 5}, 5) == std::vector<int64_t>{0, 1, 2}));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
