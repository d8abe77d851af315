// SPDX-License-Identifier: Apache-2.0
// Genomes as training data: what a FASTA file may hold, both strands, and batches that grow with the run.
#include <boost/test/unit_test.hpp>
#include <set>

#include "tests/support/op_spec.hpp"
#include "tests/support/temporary_folder.hpp"
#include "train/data/fasta.hpp"
#include "train/file.hpp"

namespace mahia::train {
namespace {

using tests::check_throws;

std::string as_letters(std::span<const uint8_t> tokens) {
  std::string text;
  for (const uint8_t token : tokens) text += token == dna_separator ? '|' : dna_vocabulary().characters[token];
  return text;
}

struct Folder : tests::TemporaryFolder {
  std::string with(const std::string& text) const {
    write_file(*this / "genome.fasta", text);
    return *this / "genome.fasta";
  }
  std::string letters(const std::string& text) const { return as_letters(Fasta(with(text), 0).training()); }
};

BOOST_AUTO_TEST_SUITE(fasta)

BOOST_FIXTURE_TEST_CASE(records_are_joined_whatever_their_lines_look_like, Folder) {
  BOOST_TEST(letters(">one\nACGT\nAC\n") == "ACGTAC");
  BOOST_TEST(letters(">one\r\nACGT\r\nAC") == "ACGTAC");
  BOOST_TEST(letters("\n\n>one\nACGTACGTACGT\n\nA\nCC\n") == "ACGTACGTACGTACC");
  BOOST_TEST(letters(">a\nACG\n>b\nTT\n>c\nG\n") == "ACG|TT|G");
  BOOST_TEST(letters(">soft masked\nacgtnACGTN\n") == "ACGTNACGTN");
  BOOST_TEST(letters(">several may stand here, and RNA\nURYKMSWBDHVNu\n") == "TNNNNNNNNNNNT");
}

BOOST_FIXTURE_TEST_CASE(records_know_their_names_and_places, Folder) {
  const Fasta genome(with("> first one of two\nACG\nT\n>second\nGG\n"), 0);
  BOOST_TEST_REQUIRE(genome.records().size() == 2u);
  BOOST_TEST(genome.records()[0].name == "first");
  BOOST_TEST(genome.records()[0].begin == 0);
  BOOST_TEST(genome.records()[0].length == 4);
  BOOST_TEST(genome.records()[1].name == "second");
  BOOST_TEST(genome.records()[1].begin == 5);
  BOOST_TEST(genome.records()[1].length == 2);
}

BOOST_FIXTURE_TEST_CASE(the_last_bases_are_held_out, Folder) {
  const Fasta genome(with(">x\nAAAAAAAAACCCCCCCCCGT\n"), 0.1);
  BOOST_TEST(as_letters(genome.training()) == "AAAAAAAAACCCCCCCCC");
  BOOST_TEST(as_letters(genome.held_out()) == "GT");
}

BOOST_FIXTURE_TEST_CASE(faults_name_file_and_line, Folder) {
  const auto refused = [&](const std::string& text, const std::string& what) {
    check_throws<IoError>([&] { Fasta(with(text)); }, what);
  };
  refused(">one\nACGT\nAC-T\n", "genome.fasta:3: `-` is no nucleotide");
  refused(">one\nACGT \n", "genome.fasta:2: ` ` is no nucleotide");
  refused("\nACGT\n>one\nA\n", "genome.fasta:2: a FASTA file begins with a line `>NAME`");
  refused(">empty one\n>two\nA\n", "genome.fasta:2: the record `empty` before this line has no bases");
  refused(">one\nA\n>last\n", "the record `last`");
  refused("\n\n", "genome.fasta: no FASTA record in this file");
  check_throws<IoError>([] { Fasta("/nowhere/genome.fasta"); }, "/nowhere/genome.fasta: cannot open");
  check_throws<ValueError>([&] { Fasta(with(">a\nA\n"), 1); }, "held_out is 1, must be in [0, 1)");
}

BOOST_FIXTURE_TEST_CASE(half_of_the_windows_are_read_along_the_other_strand, Folder) {
  const auto genome = std::make_shared<const Fasta>(with(">x\nAAAAACAAAAAAAAACAAAAAAAA\n"), 0);
  const StrandBatches batches(genome, 8, 6, 3);
  int forwards = 0, backwards = 0;
  for (int64_t index = 0; index < 50; ++index) {
    const Batch batch = batches.at(index);
    const auto tokens = batch.tokens.to_vector<int64_t>(), targets = batch.targets.to_vector<int64_t>();
    for (size_t row = 0; row < 8; ++row) {
      const std::vector<int64_t> x(tokens.begin() + static_cast<std::ptrdiff_t>(6 * row),
                                   tokens.begin() + static_cast<std::ptrdiff_t>(6 * row) + 6);
      const std::set<int64_t> kinds(x.begin(), x.end());
      const bool forward = kinds.contains(dna_a), backward = kinds.contains(dna_t);
      BOOST_TEST(forward != backward);
      BOOST_TEST((!forward || !kinds.contains(dna_g)));
      BOOST_TEST((!backward || !kinds.contains(dna_c)));
      for (size_t t = 0; t + 1 < 6; ++t) BOOST_TEST(targets[6 * row + t] == x[t + 1]);
      (forward ? forwards : backwards) += 1;
    }
  }
  BOOST_TEST(forwards > 150);
  BOOST_TEST(backwards > 150);
  check_throws<ValueError>([&] { StrandBatches(genome, 1, 24, 0); }, "24 training tokens are too few");
}

BOOST_FIXTURE_TEST_CASE(the_other_strand_is_reversed_with_complements, Folder) {
  const auto genome = std::make_shared<const Fasta>(with(">x\nACGTTNGC\n"), 0);  // one window of 7 + 1
  const StrandBatches batches(genome, 1, 7, 0);
  std::set<std::string> seen;
  for (int64_t index = 0; index < 20; ++index) {
    std::string text;
    for (const int64_t token : batches.at(index).tokens.to_vector<int64_t>()) {
      text += dna_vocabulary().characters[static_cast<size_t>(token)];
    }
    seen.insert(text);
  }
  BOOST_TEST((seen == std::set<std::string>{"ACGTTNG", "GCNAACG"}));
}

BOOST_AUTO_TEST_CASE(batches_grow_by_stages_and_stay_functions_of_their_number) {
  struct Constant : BatchSource {
    explicit Constant(int64_t n) : length(n) {}
    Batch at(int64_t index) const override { return {Tensor::from(std::vector<int64_t>{length, index}, {2}), {}}; }
    int64_t length;
  };
  const auto of = [](int64_t length) { return std::make_shared<const Constant>(length); };
  const StagedBatches batches({{2, of(10)}, {3, of(20)}, {0, of(40)}});
  const std::vector<int64_t> lengths = {10, 10, 20, 20, 20, 40, 40, 40};
  for (int64_t index = 0; index < 8; ++index) {
    const std::vector<int64_t> expected = {lengths[static_cast<size_t>(index)], index};
    BOOST_TEST(batches.at(index).tokens.to_vector<int64_t>() == expected, boost::test_tools::per_element());
  }
  check_throws<ValueError>([] { StagedBatches({}); }, "there is no stage");
}

BOOST_AUTO_TEST_CASE(characters_are_tokens_and_others_are_named) {
  const Vocabulary &dna = dna_vocabulary(), &bytes = byte_vocabulary();
  BOOST_TEST((dna.encode("ACGTn") == std::vector<int64_t>{0, 1, 2, 3, 4}));
  BOOST_TEST(dna.size == 8);
  BOOST_TEST((bytes.encode("a\xff") == std::vector<int64_t>{97, 255}));
  BOOST_TEST(bytes.characters[255] == '\xff');
  check_throws<ValueError>([&] { dna.encode("ACX"); }, "`X` at place 2 is no base");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
