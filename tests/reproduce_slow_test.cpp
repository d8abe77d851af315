// SPDX-License-Identifier: Apache-2.0
// The tasks of tier 1 are learned: one fixed seed each, for part of the tier's epochs, in the slow label; three seeds
// in the accept label. The bars are set from the runs in docs/reproduce.md.
#include <algorithm>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include "tests/support/temporary_folder.hpp"
#include "train/reproduce_report.hpp"

namespace mahia::train {
namespace {

namespace data = boost::unit_test::data;

struct Bars {
  double best = 0, mean_of_last_five = 0;  // of each seed's accuracies
  double exact = 0;                        // of the last evaluation
  double training_loss = 0;  // stays above: most tokens cannot be predicted, so less means that the future is seen
};

void learns(const Recipe& recipe, uint64_t seed, const Bars& bars) {
  const tests::TemporaryFolder folder;
  const Reproduction result = reproduce(recipe, {.out = folder / "run", .first_seed = seed, .seeds = 1});
  BOOST_TEST_MESSAGE(to_table(result));
  BOOST_TEST(result.runs.size() == 1u);
  for (const SeedRun& run : result.runs) {
    BOOST_TEST_CONTEXT(recipe.task << ", seed " << run.seed) {
      double best = 0;
      for (const Evaluation& e : run.evaluations) {
        best = std::max(best, e.score.score);
        BOOST_TEST(e.training_loss > bars.training_loss);
      }
      BOOST_TEST(run.finished);
      BOOST_TEST(best >= bars.best);
      BOOST_TEST(run.mean_of_last(5) >= bars.mean_of_last_five);
      BOOST_TEST(run.evaluations.back().score.exact >= bars.exact);
    }
  }
}

constexpr Bars recall{.best = 0.98, .mean_of_last_five = 0.965, .training_loss = 0.7};
constexpr Bars induction{.best = 0.9, .mean_of_last_five = 0.85, .training_loss = 2.5};
constexpr Bars short_induction{.best = 0.95, .training_loss = 1.6};  // guesses reach 0.28
constexpr Bars sums{.best = 0.98, .mean_of_last_five = 0.97, .exact = 0.95};
constexpr Bars sums_early{.best = 0.97, .mean_of_last_five = 0.94, .exact = 0.9};
constexpr Bars majorities{.best = 0.8, .mean_of_last_five = 0.65};
constexpr Bars majorities_early{.best = 0.7, .mean_of_last_five = 0.5};

Recipe recipe_until(const std::string& task, int64_t epochs) {
  Recipe recipe = recipe_of(task, 1);
  recipe.epochs = epochs;
  return recipe;
}

BOOST_AUTO_TEST_SUITE(slow_associative_recall)
BOOST_AUTO_TEST_CASE(one_seed_learns_it) { learns(recipe_until("associative-recall", 60), 0, recall); }
BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(slow_induction_head)
// The tier's own size is learned after some 60 epochs; this one after 40, of a quarter the cost.
BOOST_AUTO_TEST_CASE(one_seed_learns_a_short_one) {
  Recipe recipe = recipe_until("induction-head", 56);
  recipe.vocab = 10;
  recipe.length = 12;
  recipe.lr = 1e-3;
  learns(recipe, 0, short_induction);
}
BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(slow_addition)
BOOST_AUTO_TEST_CASE(one_seed_learns_it) { learns(recipe_until("arithmetic", 8), 0, sums_early); }
BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(slow_majority)
BOOST_AUTO_TEST_CASE(one_seed_learns_it) { learns(recipe_until("majority", 12), 0, majorities_early); }
BOOST_AUTO_TEST_SUITE_END()

const uint64_t seeds[] = {0, 1, 2};

BOOST_AUTO_TEST_SUITE(accept_synthetic_recall)
BOOST_DATA_TEST_CASE(each_seed_learns_it, data::make(seeds)) {
  learns(recipe_of("associative-recall", 1), sample, recall);
}
BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(accept_synthetic_induction)
BOOST_DATA_TEST_CASE(each_seed_learns_it, data::make(seeds)) {
  learns(recipe_of("induction-head", 1), sample, induction);
}
BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(accept_synthetic_sums)
BOOST_DATA_TEST_CASE(each_seed_learns_them, data::make(seeds)) { learns(recipe_of("arithmetic", 1), sample, sums); }
BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(accept_synthetic_majority)
BOOST_DATA_TEST_CASE(each_seed_learns_it, data::make(seeds)) { learns(recipe_of("majority", 1), sample, majorities); }
BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
