// SPDX-License-Identifier: Apache-2.0
// The recipes of docs/reproduce.md, property by property, and checksums that would show a platform that draws others.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <map>
#include <set>

#include "tests/support/op_spec.hpp"
#include "train/data/synthetic/linear_functions.hpp"
#include "train/data/synthetic/task.hpp"
#include "train/file.hpp"

namespace mahia::train::synthetic {
namespace {

using tests::check_throws;
using Ids = std::vector<int64_t>;

std::vector<Example> drawn(const Task& task, int64_t count, uint64_t seed = 3) {
  std::vector<Example> examples;
  for (int64_t i = 0; i < count; ++i) {
    Draws draws(seed, Purpose::training, i);
    examples.push_back(task.draw(draws));
    BOOST_TEST_REQUIRE(examples.back().tokens.size() == static_cast<size_t>(task.sizes().length));
    BOOST_TEST_REQUIRE(examples.back().targets.size() == static_cast<size_t>(task.sizes().length));
  }
  return examples;
}

bool is_between(int64_t x, int64_t low, int64_t high) { return x >= low && x <= high; }

BOOST_AUTO_TEST_SUITE(synthetic)

BOOST_AUTO_TEST_CASE(the_words_of_recall_are_sorted_as_strings) {
  BOOST_TEST(recall_words(10) == (std::vector<std::string>{".", "0", "1", "2", "3", "4", "5", "6", "7", "=>"}),
             boost::test_tools::per_element());
  for (const int64_t vocab : {10, 20, 30, 40}) {
    const std::vector<std::string> words = recall_words(vocab);
    BOOST_TEST(words.size() == static_cast<size_t>(vocab));
    BOOST_TEST(words.front() == ".");
    BOOST_TEST(words.back() == "=>");
  }
  BOOST_TEST(recall_words(20)[3] == "10");
  BOOST_TEST(recall_words(20)[18] == "9");
}

BOOST_AUTO_TEST_CASE(associative_recall_asks_for_the_value_of_a_key_that_occurred) {
  for (const int64_t vocab : {4, 10, 21, 40}) {
    const int64_t length = 20, keys = (vocab - 2) / 2, copy_prefix = vocab - 1;
    const auto task = associative_recall(vocab, length);
    BOOST_TEST(task->sizes().length == length + 2);
    for (const Example& e : drawn(*task, 200)) {
      std::map<int64_t, int64_t> value;
      for (size_t i = 0; i < static_cast<size_t>(length); i += 2) {
        BOOST_TEST(is_between(e.tokens[i], 1, keys));
        BOOST_TEST(is_between(e.tokens[i + 1], keys + 1, vocab - 2));
        BOOST_TEST(value.emplace(e.tokens[i], e.tokens[i + 1]).first->second == e.tokens[i + 1]);
      }
      BOOST_TEST(e.tokens[20] == copy_prefix);
      BOOST_TEST_REQUIRE(value.contains(e.tokens[21]));
      BOOST_TEST(e.targets.back() == value[e.tokens[21]]);
      BOOST_TEST(std::equal(e.tokens.begin() + 1, e.tokens.end(), e.targets.begin()));
    }
  }
}

// Ten keys of which each occurs: were the query drawn by occurrence, a key that occurs often would be asked for often.
BOOST_AUTO_TEST_CASE(every_key_that_occurred_is_asked_for_equally_often) {
  double asked = 0, expected = 0, variance = 0;
  for (const Example& e : drawn(*associative_recall(10, 20), 4000)) {
    std::map<int64_t, int> count;
    for (size_t i = 0; i < 20; i += 2) ++count[e.tokens[i]];
    const auto most =
        std::max_element(count.begin(), count.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    const double p = 1 / static_cast<double>(count.size());
    asked += e.tokens[21] == most->first ? 1 : 0;
    expected += p;
    variance += p * (1 - p);
  }
  BOOST_TEST(std::abs(asked - expected) < 5 * std::sqrt(variance));
}

BOOST_AUTO_TEST_CASE(the_induction_head_copies_what_followed_the_first_prefix) {
  const int64_t vocab = 20, length = 30;
  const auto task = induction_head(vocab, length);
  std::set<size_t> places;
  for (const Example& e : drawn(*task, 2000)) {
    BOOST_TEST(e.tokens.back() == vocab - 1);
    BOOST_TEST(std::count(e.tokens.begin(), e.tokens.end(), vocab - 1) == 2);
    const auto place = static_cast<size_t>(std::find(e.tokens.begin(), e.tokens.end(), vocab - 1) - e.tokens.begin());
    places.insert(place);
    BOOST_TEST(e.targets.back() == e.tokens[place + 1]);
    for (size_t i = 0; i + 1 < e.tokens.size(); ++i) {
      BOOST_TEST((i == place || is_between(e.tokens[i], 1, vocab - 2)));
      BOOST_TEST(e.targets[i] == e.tokens[i + 1]);
    }
  }
  BOOST_TEST(places.size() == 29u);  // 0 ... L - 2
}

BOOST_AUTO_TEST_CASE(multi_query_recall_asks_each_key_once_in_its_slot) {
  const int64_t vocab = 8192, pairs = 16;
  for (const Example& e : drawn(*multi_query_recall(vocab, 256, pairs), 100)) {
    std::map<int64_t, int64_t> value;
    std::set<int64_t> values;
    for (size_t i = 0; i < 32; i += 2) {
      BOOST_TEST(is_between(e.tokens[i], 1, 4095));
      BOOST_TEST(is_between(e.tokens[i + 1], 4096, 8191));
      value[e.tokens[i]] = e.tokens[i + 1];
      values.insert(e.tokens[i + 1]);
      BOOST_TEST((e.targets[i] == ignored && e.targets[i + 1] == ignored));
    }
    BOOST_TEST((value.size() == 16u && values.size() == 16u));
    for (size_t i = 32; i < 256; ++i) {
      if (e.tokens[i] == 0) {
        BOOST_TEST(e.targets[i] == ignored);
        continue;
      }
      BOOST_TEST(i % 2 == 0u);
      BOOST_TEST(e.targets[i] == value.at(e.tokens[i]));
      value.erase(e.tokens[i]);
    }
    BOOST_TEST(value.empty());
  }
}

BOOST_AUTO_TEST_CASE(queries_choose_slots_by_the_power_law) {
  constexpr int64_t slots = 31, count = 20000;  // L = 64 with one pair
  std::vector<double> seen(slots), weight;
  for (const Example& e : drawn(*multi_query_recall(128, 64, 1), count)) {
    for (size_t i = 2; i < 64; i += 2) seen[(i - 2) / 2] += e.tokens[i] != 0 ? 1 : 0;
  }
  double total = 0;
  for (int64_t i = 1; i <= slots; ++i) total += weight.emplace_back(std::pow(i, 0.01 - 1));
  for (size_t i = 0; i < slots; ++i) {
    const double p = weight[i] / total;
    BOOST_TEST(std::abs(seen[i] - p * count) < 5 * std::sqrt(p * count), "slot " << i << ": " << seen[i]);
  }
}

BOOST_AUTO_TEST_CASE(sums_are_right_and_summands_are_masked) {
  for (const int64_t n : {1, 2, 4, 8, 16}) {
    for (const Example& e : drawn(*addition(n), 100)) {
      const auto number = [](const Ids& digits, int64_t first, int64_t size) {
        unsigned __int128 x = 0;
        for (int64_t i = first; i < first + size; ++i)
          x = 10 * x + static_cast<unsigned>(digits[static_cast<size_t>(i)]);
        return x;
      };
      for (int64_t t = 0; t < 2 * n - 1; ++t) BOOST_TEST(e.targets[static_cast<size_t>(t)] == ignored);
      BOOST_TEST((number(e.targets, 2 * n - 1, n + 1) == number(e.tokens, 0, n) + number(e.tokens, n, n)));
      BOOST_TEST(std::equal(e.tokens.begin() + 2 * n, e.tokens.end(), e.targets.begin() + 2 * n - 1));
    }
  }
}

BOOST_AUTO_TEST_CASE(the_majority_is_unique) {
  const int64_t vocab = 10, length = 64;
  for (const Example& e : drawn(*majority(vocab, length), 300)) {
    BOOST_TEST(e.tokens.back() == vocab - 1);
    std::map<int64_t, int> count;
    for (size_t i = 0; i < 64; ++i) {
      BOOST_TEST(is_between(e.tokens[i], 0, vocab - 2));
      BOOST_TEST(e.targets[i] == ignored);
      ++count[e.tokens[i]];
    }
    for (const auto& [symbol, times] : count) BOOST_TEST((symbol == e.targets[64] || times < count[e.targets[64]]));
  }
}

BOOST_AUTO_TEST_CASE(counts_are_clipped_to_the_largest_id) {
  for (const auto& [vocab, length] : {std::pair<int64_t, int64_t>{20, 30}, {4, 30}}) {
    int64_t clipped = 0;
    for (const Example& e : drawn(*counting(vocab, length), 300)) {
      const int64_t count = std::count(e.tokens.begin(), e.tokens.end() - 2, e.tokens.back());
      BOOST_TEST(e.tokens[static_cast<size_t>(length)] == vocab - 1);
      BOOST_TEST(e.targets.back() == std::min(count, vocab - 1));
      BOOST_TEST(std::count(e.targets.begin(), e.targets.end(), ignored) == length + 1);
      clipped += count > vocab - 1 ? 1 : 0;
    }
    BOOST_TEST((clipped > 0) == (vocab == 4));
  }
}

BOOST_AUTO_TEST_CASE(linear_functions_can_be_read_off_the_pairs) {
  const LinearFunctions source(5, 7, Purpose::training, 400);
  const Batch batch = source.at(2);
  BOOST_TEST(batch.tokens.shape() == (Shape{400, 22, 6}));
  BOOST_TEST(batch.targets.shape() == (Shape{400, 11}));
  BOOST_TEST(least_squares_error(batch) < 1e-8);
  const auto x = batch.tokens.to_vector<double>(), y = batch.targets.to_vector<double>();
  double power = 0;
  for (size_t place = 0; place < 400 * 22; ++place) {
    const bool asks = place % 2 == 0;
    for (size_t i = 0; i < 6; ++i) BOOST_TEST(((x[6 * place + i] == 0) == (asks ? i == 5 : i < 5)));
    if (!asks) BOOST_TEST(x[6 * place + 5] == y[place / 2]);
  }
  for (const double v : y) power += v * v / (5.0 * 4400);
  BOOST_TEST(std::abs(power - 1) < 0.2);
  std::vector<float> outputs;
  for (int i = 0; i < 2 * 6; ++i) outputs.push_back(static_cast<float>(i));
  BOOST_TEST(answers_in(Tensor::from(outputs, {2, 6, 1})).to_vector<int64_t>() == (Ids{0, 2, 4, 6, 8, 10}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(normal_draws_are_normal) {
  constexpr int count = 200000;
  double moments[5] = {}, within = 0;
  Draws draws(11, Purpose::training, 0);
  for (int i = 0; i < count; ++i) {
    const double x = draws.normal();
    for (int k = 1; k < 5; ++k) moments[k] += std::pow(x, k) / count;
    within += std::abs(x) < 0.5 ? 1.0 / count : 0;
  }
  BOOST_TEST(std::abs(moments[1]) < 5 / std::sqrt(count));
  BOOST_TEST(std::abs(moments[2] - 1) < 5 * std::sqrt(2.0 / count));
  BOOST_TEST(std::abs(moments[3]) < 5 * std::sqrt(15.0 / count));
  BOOST_TEST(std::abs(moments[4] - 3) < 5 * std::sqrt(96.0 / count));
  BOOST_TEST(std::abs(within - std::erf(0.5 / std::sqrt(2))) < 5 * std::sqrt(0.25 / count));
}

// Of 10,000 sums, 500 are for testing; 20,000 training examples must avoid them.
BOOST_AUTO_TEST_CASE(test_examples_differ_from_each_other_and_from_all_training_ones) {
  const Examples examples(addition(2), 5, 500);
  std::set<Ids> test;
  for (int64_t i = 0; i < 500; ++i) test.insert(examples.test(i).tokens);
  BOOST_TEST(test.size() == 500u);
  std::set<Ids> training;
  for (int64_t i = 0; i < 20000; ++i) training.insert(examples.training(i).tokens);
  for (const Ids& tokens : training) BOOST_TEST(!test.contains(tokens));
  BOOST_TEST(training.size() > 8000u);
  check_throws<ValueError>([] { Examples(addition(1), 0, 101); }, "too few different examples for 101 test examples");
  const Examples all_taken(addition(1), 0, 100);
  check_throws<ValueError>([&] { all_taken.training(0); }, "leave none to train on");
}

BOOST_AUTO_TEST_CASE(an_epoch_shows_every_example_once) {
  const auto examples = std::make_shared<const Examples>(associative_recall(40, 20), 1, 10);
  const EpochBatches batches(examples, 50, 8);
  std::vector<Ids> shown;
  for (int64_t index = 0; index < 13; ++index) {  // two epochs and four rows; batch 6 spans both
    const Batch batch = batches.at(index);
    const auto tokens = batch.tokens.to_vector<int64_t>();
    for (size_t row = 0; row < 8; ++row)
      shown.emplace_back(tokens.begin() + 22 * static_cast<std::ptrdiff_t>(row),
                         tokens.begin() + 22 * static_cast<std::ptrdiff_t>(row + 1));
  }
  const std::set<Ids> first(shown.begin(), shown.begin() + 50), second(shown.begin() + 50, shown.begin() + 100);
  BOOST_TEST(first.size() == 50u);
  BOOST_TEST((first == second));
  BOOST_TEST(!std::equal(shown.begin(), shown.begin() + 50, shown.begin() + 50));
  BOOST_TEST(first.contains(shown[101]));
}

std::string checksum(const std::vector<Batch>& batches) {
  Digest digest;
  for (const Batch& batch : batches) {
    for (const Tensor* t : {&batch.tokens, &batch.targets}) {
      digest.add(
          {static_cast<const std::byte*>(ConstView(*t).raw()), static_cast<size_t>(t->numel()) * size_of(t->dtype())});
    }
  }
  return digest.hex();
}

std::string checksum_of(std::unique_ptr<Task> task, uint64_t seed) {
  const auto examples = std::make_shared<const Examples>(std::move(task), seed, 20);
  std::vector<Batch> batches = test_batches(*examples, 8);
  const EpochBatches training(examples, 100, 16);
  for (const int64_t index : {0, 6, 1000}) batches.push_back(training.at(index));
  return checksum(batches);
}

BOOST_AUTO_TEST_CASE(every_platform_draws_the_same_examples) {
  BOOST_TEST(checksum_of(associative_recall(10, 20), 0) == "e4aec318a587ed4b");
  BOOST_TEST(checksum_of(associative_recall(10, 20), uint64_t{1} << 40) == "df2d6e71427a76d8");
  BOOST_TEST(checksum_of(associative_recall(30, 2048), 1) == "9d1b244f8cdf9cf1");
  BOOST_TEST(checksum_of(induction_head(20, 30), 1) == "5ba7ab69087b2bac");
  BOOST_TEST(checksum_of(multi_query_recall(8192, 256, 16), 1) == "302649240114fc11");
  BOOST_TEST(checksum_of(addition(16), 1) == "ab10f36ede973fb2");
  BOOST_TEST(checksum_of(majority(10, 64), 1) == "763e1857f97e7352");
  BOOST_TEST(checksum_of(counting(20, 30), 1) == "b9dfa5ded969c397");
  BOOST_TEST(checksum({LinearFunctions(5, 1, Purpose::training, 64).at(3),
                       LinearFunctions(5, 1, Purpose::test, 64).at(0)}) == "1a82d9e77ffb9821");
}

// Prompts of two values, 5 twice and 6 once, with the answers 5 and 6; ids below 5 are no values.
BOOST_AUTO_TEST_CASE(baselines_are_what_guessing_gives) {
  struct Plain : Task {
    Plain() : Task({.vocab = 8, .length = 4, .scored = 1, .chance = 0.5}) {}
    Example draw(Draws&) const override { return {}; }
  };
  const Plain task;
  const std::vector<Example> examples = {{{5, 1, 6, 5}, {ignored, 7, ignored, 5}}, {{6, 5, 5, 2}, {1, 2, 3, 6}}};
  const auto general = task.baselines(examples);
  BOOST_TEST(general[0].score == 0.5);
  BOOST_TEST(general[1].score == 0.5);  // 5 and 6 are asked for once each
  BOOST_TEST(std::abs(random_value_of_prompt(task, examples, 5, 7).score - (2.0 / 3 + 1.0 / 3) / 2) < 1e-12);
  BOOST_TEST(frequent_value_of_prompt(task, examples, 5, 7).score == 0.5);
  BOOST_TEST(associative_recall(20, 20)->sizes().chance == 1.0 / 9);
  BOOST_TEST(associative_recall(40, 20)->sizes().chance == 1.0 / 19);
  BOOST_TEST(induction_head(20, 30)->sizes().chance == 1.0 / 18);
}

BOOST_AUTO_TEST_CASE(sizes_that_no_recipe_has_are_refused) {
  check_throws<ValueError>([] { associative_recall(10, 21); }, "associative recall: length is 21, must be even");
  check_throws<ValueError>([] { associative_recall(3, 20); }, "associative recall: vocab is 3");
  check_throws<ValueError>([] { induction_head(2, 20); }, "induction head: vocab 2");
  check_throws<ValueError>([] { multi_query_recall(8192, 64, 17); },
                           "at least 4 times the pairs, of which there are 17");
  check_throws<ValueError>([] { multi_query_recall(64, 64, 4); }, "vocab 64 must be even and exceed the length 64");
  check_throws<ValueError>([] { addition(0); }, "addition: digits is 0");
  check_throws<ValueError>([] { majority(2, 64); }, "majority: vocab 2");
  check_throws<ValueError>([] { counting(1, 64); }, "counting: vocab 1");
  check_throws<ValueError>([] { LinearFunctions(0, 0, Purpose::test, 1); }, "linear functions: dimension 0");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train::synthetic
