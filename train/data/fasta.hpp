// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "text.hpp"
#include "vocabulary.hpp"

namespace mahia::train {

// The sequences of a FASTA file as tokens of dna_vocabulary(), one after the other with dna_separator between them.
class Fasta : public TokenText {
 public:
  struct Record {
    std::string name;       // the header's first word
    int64_t begin, length;  // among all tokens
  };
  // Reads the file once; a byte of memory per base. Lines may have any length and end in \n or \r\n, empty ones are
  // skipped. Throws IoError, naming file and line, for what is no FASTA file, a record without bases and a character
  // that is no nucleotide; ValueError for a share outside [0, 1).
  explicit Fasta(const std::string& path, double held_out = 0.1);
  const std::vector<Record>& records() const { return records_; }

 private:
  std::vector<uint8_t> tokens_;
  std::vector<Record> records_;
};

// Training batches of a text in tokens of dna_vocabulary(): windows as TextBatches has them, each read along one strand
// or, as likely, along the other: from its end, with complements.
class StrandBatches : public BatchSource {
 public:
  // Throws ValueError when the training part is shorter than one window.
  StrandBatches(std::shared_ptr<const TokenText> genome, int64_t batch_size, int64_t sequence_length, uint64_t seed);
  Batch at(int64_t index) const override;

 private:
  std::shared_ptr<const TokenText> genome_;
  int64_t batch_size_, sequence_length_;
  uint64_t seed_;
};

}  // namespace mahia::train
