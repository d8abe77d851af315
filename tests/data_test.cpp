// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>

#include "core/factory.hpp"
#include "tests/support/op_spec.hpp"
#include "train/data/text.hpp"

namespace mahia::train {
namespace {

// A file of n bytes 0, 1, ..., 250, 0, ... that is removed again.
struct CountingFile {
  explicit CountingFile(size_t n) : path((std::filesystem::temp_directory_path() / "mahia_data_test.bin").string()) {
    std::ofstream file(path, std::ios::binary);
    for (size_t i = 0; i < n; ++i) file.put(static_cast<char>(i % 251));
  }
  ~CountingFile() { std::filesystem::remove(path); }
  std::string path;
};

BOOST_AUTO_TEST_SUITE(data)

BOOST_AUTO_TEST_CASE(targets_are_the_tokens_one_byte_later_and_never_held_out) {
  const CountingFile file(1000);
  const auto text = std::make_shared<const ByteText>(file.path);
  BOOST_TEST(text->training().size() == 900u);
  BOOST_TEST(text->held_out().size() == 100u);
  const TextBatches batches(text, 4, 16, 7);
  for (int64_t index = 0; index < 50; ++index) {
    const Batch batch = batches.at(index);
    const auto x = batch.tokens.to_vector<int64_t>(), y = batch.targets.to_vector<int64_t>();
    BOOST_TEST(batch.tokens.shape() == (Shape{4, 16}));
    for (size_t i = 0; i < x.size(); ++i) BOOST_TEST(y[i] == (x[i] + 1) % 251);
  }
}

BOOST_AUTO_TEST_CASE(a_batch_depends_on_its_number_and_the_seed_alone) {
  const CountingFile file(5000);
  const auto text = std::make_shared<const ByteText>(file.path);
  const TextBatches a(text, 3, 32, 7), b(text, 3, 32, 7), other(text, 3, 32, 8);
  const auto tokens = [](const TextBatches& source, int64_t i) { return source.at(i).tokens.to_vector<int64_t>(); };
  BOOST_TEST((tokens(a, 41) == tokens(b, 41)));
  BOOST_TEST((tokens(a, 41) != tokens(a, 42)));
  BOOST_TEST((tokens(a, 41) != tokens(other, 41)));
}

BOOST_AUTO_TEST_CASE(prefetched_batches_come_in_order_from_any_cursor) {
  const CountingFile file(5000);
  const auto source = std::make_shared<TextBatches>(std::make_shared<const ByteText>(file.path), 2, 8, 1);
  Prefetcher ahead(source, 17);
  for (int64_t index = 17; index < 40; ++index) {
    BOOST_TEST(ahead.cursor() == index);
    BOOST_TEST((ahead.next().tokens.to_vector<int64_t>() == source->at(index).tokens.to_vector<int64_t>()));
  }
}

BOOST_AUTO_TEST_CASE(an_error_of_the_source_reaches_the_caller_after_the_good_batches) {
  struct Failing : BatchSource {
    Batch at(int64_t index) const override {
      check<IoError>(index < 2, "the disk is gone");
      return {zeros({1}), {}};
    }
  };
  Prefetcher ahead(std::make_shared<Failing>(), 0);
  ahead.next();
  ahead.next();
  tests::check_throws<IoError>([&] { ahead.next(); }, "the disk is gone");
}

BOOST_AUTO_TEST_CASE(every_held_out_byte_but_the_first_is_predicted_once) {
  const CountingFile file(1030);  // 103 held out: 102 targets = 2 x 3 x 16 + 6
  const ByteText text(file.path);
  int64_t targets = 0;
  int64_t next = text.held_out()[1];
  for (const Batch& batch : held_out_batches(text, 3, 16)) {
    for (const int64_t y : batch.targets.to_vector<int64_t>()) {
      BOOST_TEST(y == next);
      next = (next + 1) % 251;
      ++targets;
    }
  }
  BOOST_TEST(targets == 102);
  BOOST_TEST(held_out_batches(text, 3, 16, 1).size() == 1u);
}

BOOST_AUTO_TEST_CASE(rows_of_tensors_in_memory_stay_together) {
  const Tensor x = arange(10, DType::f32), y = arange(10);
  const TensorBatches batches(x, y, 6, 3);
  std::set<int64_t> seen;
  for (int64_t index = 0; index < 30; ++index) {
    const Batch batch = batches.at(index);
    BOOST_TEST((batch.tokens.to_vector<int64_t>() == batch.targets.to_vector<int64_t>()));
    for (const int64_t row : batch.targets.to_vector<int64_t>()) seen.insert(row);
  }
  BOOST_TEST(seen.size() == 10u);
}

BOOST_AUTO_TEST_CASE(bad_files_are_named) {
  tests::check_throws<IoError>([] { ByteText("/nowhere/kjv.txt"); }, "/nowhere/kjv.txt: cannot open the text");
  const CountingFile empty_file(0), short_file(20);
  tests::check_throws<IoError>([] { ByteText("/"); }, "no regular file");
  const auto text = std::make_shared<const ByteText>(short_file.path);
  tests::check_throws<ValueError>([&] { TextBatches(text, 1, 64, 0); },
                                  "18 training tokens are too few for sequence_length 64");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
