// SPDX-License-Identifier: Apache-2.0
#include "train/reproduce.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/parallel.hpp"
#include "core/random.hpp"
#include "tests/support/op_spec.hpp"
#include "tests/support/process.hpp"
#include "tests/support/temporary_folder.hpp"
#include "train/file.hpp"
#include "train/reproduce_report.hpp"

namespace mahia::train {
namespace {

using tests::check_throws;
using tests::TemporaryFolder;

// A run of seconds.
Recipe tiny(const std::string& task) {
  Recipe r = recipe_of(task, 1);
  r.length = 12;
  r.vocab = 16;
  r.pairs = 2;
  r.train_examples = 64;
  r.test_examples = 20;
  r.width = 8;
  r.layers = 1;
  r.batch = 16;
  r.epochs = 4;
  r.schedule_epochs = 8;
  r.evaluate_every = 2;
  return r;
}

struct Folders {
  std::string operator()(const std::string& name) const { return folder / name; }
  // results.json after running `recipe` into a folder of that name.
  std::string results(const Recipe& recipe, const std::string& name, ReproduceOptions options = {}) {
    options.out = folder / name;
    if (options.seeds == 3) options.seeds = 1;
    result = reproduce(recipe, options);
    return read_file(options.out + "/results.json");
  }
  TemporaryFolder folder;
  Reproduction result;
};

BOOST_AUTO_TEST_SUITE(reproduction)

BOOST_FIXTURE_TEST_CASE(every_task_is_trained_evaluated_and_reported, Folders) {
  for (const std::string& task : reproduce_tasks()) {
    BOOST_TEST_CONTEXT(task) {
      Recipe recipe = tiny(task);
      recipe.stop_at = 0;
      const auto json = nlohmann::json::parse(results(recipe, task, {.seeds = 2}));
      BOOST_TEST(json["recipe"]["task"].get<std::string>() == task);
      BOOST_TEST(json["runs"].size() == 2u);
      for (const auto& run : json["runs"]) {
        BOOST_TEST(run["finished"].get<bool>());
        BOOST_TEST_REQUIRE(run["evaluations"].size() == 2u);
        BOOST_TEST(run["evaluations"][0]["step"].get<int>() == 8);
        BOOST_TEST(run["evaluations"][1]["step"].get<int>() == 16);
        BOOST_TEST(run["evaluations"][1]["training_loss"].get<double>() > 0);
      }
      BOOST_TEST(json["summary"]["best"]["most"].get<double>() >= json["summary"]["best"]["least"].get<double>());
      BOOST_TEST(json["baselines"].size() >= 2u);
      BOOST_TEST(to_table(result).find("2 seeds") != std::string::npos);
      const std::string svg = read_file((*this)(task) + "/accuracy.svg");
      BOOST_TEST(svg.find("seed 1") != std::string::npos);
      BOOST_TEST(svg.find(task) != std::string::npos);
    }
  }
}

BOOST_FIXTURE_TEST_CASE(results_are_the_same_bits_again_for_any_threads_and_after_interruptions, Folders) {
  const Recipe recipe = tiny("associative-recall");
  const std::string once = results(recipe, "once", {.seeds = 2});
  const int threads = num_threads();
  set_num_threads(threads == 1 ? 2 : 1);
  BOOST_TEST(results(recipe, "again", {.seeds = 2}) == once);
  set_num_threads(threads);
  int parts = 0;
  do {  // each part does one step
    results(recipe, "in parts", {.seeds = 2, .resume = true, .max_minutes = 1e-9});
  } while (result.reason == StopReason::out_of_time && ++parts < 100);
  BOOST_TEST(parts > 20);
  BOOST_TEST(read_file((*this)("in parts") + "/results.json") == once);
  BOOST_TEST(read_file((*this)("in parts") + "/accuracy.svg") == read_file((*this)("once") + "/accuracy.svg"));
}

BOOST_FIXTURE_TEST_CASE(pieces_of_a_batch_give_the_same_training, Folders) {
  Recipe recipe = tiny("induction-head");
  recipe.epochs = 2;
  results(recipe, "whole");
  const double whole = result.runs[0].evaluations[0].training_loss;
  recipe.micro_batches = 4;
  results(recipe, "pieces");
  BOOST_TEST(std::abs(result.runs[0].evaluations[0].training_loss - whole) < 0.05 * whole);
  recipe.micro_batches = 3;
  check_throws<ValueError>([&] { results(recipe, "thirds"); }, "batch 16 cannot be divided into 3 micro_batches");
}

BOOST_FIXTURE_TEST_CASE(a_run_ends_when_the_accuracy_is_reached, Folders) {
  Recipe recipe = tiny("arithmetic");
  recipe.stop_at = 1e-9;
  recipe.evaluate_every = 1;
  results(recipe, "run", {.seeds = 2});
  for (const SeedRun& run : result.runs) {
    BOOST_TEST(run.finished);
    BOOST_TEST(run.evaluations.size() < 4u);
    BOOST_TEST(run.last() >= 1e-9);
  }
}

BOOST_FIXTURE_TEST_CASE(a_folder_belongs_to_one_recipe, Folders) {
  Recipe recipe = tiny("counting");
  results(recipe, "run");
  check_throws<ValueError>([&] { results(recipe, "run"); }, "a run is here already; go on with it (--resume)");
  recipe.epochs = 6;  // longer, on the same schedule
  results(recipe, "run", {.seeds = 1, .resume = true});
  BOOST_TEST(result.runs[0].evaluations.size() == 3u);
  recipe.width = 4;
  check_throws<ValueError>([&] { results(recipe, "run", {.seeds = 1, .resume = true}); },
                           "the run began with another recipe, and a run keeps it");
}

BOOST_AUTO_TEST_CASE(summaries_are_of_all_runs) {
  Recipe recipe = recipe_of("associative-recall", 3);
  Reproduction r{.recipe = recipe, .baselines = {{"chance", 1.0 / 14}}};
  for (const double score : {0.5, 0.75, 0.625}) {
    SeedRun run{.seed = 4, .finished = true};
    for (const double factor : {0.0, 1.0, 0.8, 0.8, 0.8, 0.6}) {
      run.evaluations.push_back({1000, {factor * score, factor * score}, 1.25});
    }
    r.runs.push_back(run);
  }
  const auto summary = nlohmann::json::parse(to_json(r))["summary"];
  BOOST_TEST(summary["best"]["mean"].get<double>() == 0.625);
  BOOST_TEST(summary["best"]["deviation"].get<double>() == 0.125);
  BOOST_TEST(summary["best"]["least"].get<double>() == 0.5);
  BOOST_TEST(summary["best"]["most"].get<double>() == 0.75);
  BOOST_TEST(summary["mean_of_last_five"]["mean"].get<double>() == 0.5);
  BOOST_TEST(summary["last"]["mean"].get<double>() == 0.375);
  const std::string table = to_table(r);
  for (const char* words : {"3 seeds", "62.5 %   +- 12.5 % (50.0 % .. 75.0 %)", "chance", "7.1 %", "85.0 %"}) {
    BOOST_TEST(table.find(words) != std::string::npos, table << " lacks " << words);
  }
  r.runs.resize(1);
  BOOST_TEST(to_table(r).find("one seed") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(recipes_are_the_published_ones) {
  const Recipe recall = recipe_of("associative-recall", 1);
  BOOST_TEST(recall.steps(200) == 31250);
  BOOST_TEST(recall.epoch(recall.steps(80)) == 80);
  manual_seed(0);
  const auto workload = Workload::make(recall, 0);
  BOOST_TEST(workload->model().num_parameters() == 128128);
  const auto loss = workload->loss(workload->training()->at(0)).item<double>();
  BOOST_TEST(std::abs(loss - std::log(10.0)) < 0.3);
  BOOST_TEST(std::abs(workload->score().score - 0.25) < 0.3);
  BOOST_TEST(workload->model().training());
  BOOST_TEST(*published_accuracy(recipe_of("associative-recall", 3)) == 0.85);
  BOOST_TEST(!published_accuracy(recall).has_value());
  check_throws<ValueError>([] { recipe_of("sorting", 1); }, "there is no task `sorting`");
  check_throws<ValueError>([] { recipe_of("counting", 4); }, "tier is 4, must be 1, 2 or 3");
  for (const std::string& task : reproduce_tasks()) {
    for (const int tier : {1, 2, 3}) validate(recipe_of(task, tier));
  }
}

BOOST_FIXTURE_TEST_CASE(the_program_reproduces, Folders) {
  const auto finds = [&](const std::vector<std::string>& more, int code, const std::string& words) {
    std::vector<std::string> arguments = {"reproduce"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    tests::Program program(folder.path(), arguments);
    BOOST_TEST(program.wait() == code);
    const std::string said = program.out() + program.err();
    BOOST_TEST(said.find(words) != std::string::npos, said << " lacks " << words);
  };
  finds({"--help"}, 0, "Usage: mahia reproduce");
  finds({}, 2, "task is required");
  finds({"asociative-recall"}, 2, "there is no task `asociative-recall`; did you mean `associative-recall`?");
  finds({"associative-recall", "--length", "21"}, 2, "length is 21, must be even");
  finds({"associative-recall", "--pairs", "3"}, 2, "--pairs: associative-recall has none");
  finds({"associative-recall", "--tier", "4"}, 2, "--tier");
  const std::vector<std::string> run = {"arithmetic",  "--digits", "1", "--train-examples", "64", "--test-examples",
                                        "20",          "--width",  "8", "--batch",          "16", "--epochs",
                                        "2",           "--seeds",  "2", "--seed",           "5",  "--out",
                                        folder / "run"};
  finds(run, 0, "whole examples right, last evaluation");
  finds(run, 1, "a run is here already");
  std::vector<std::string> again = run;
  again.insert(again.end(), {"--resume", "--json"});
  finds(again, 0, "\"seed\": 6");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
