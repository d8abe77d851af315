// SPDX-License-Identifier: Apache-2.0
#include "train/data/fasta.hpp"

#include <algorithm>
#include <string_view>

namespace mahia::train {
namespace {

// The lines of a text, counted from 1, without their ends.
class Lines {
 public:
  explicit Lines(std::string_view text) : rest_(text) {}
  bool next() {
    if (rest_.empty()) return false;
    const size_t end = rest_.find('\n');
    line = rest_.substr(0, end);
    rest_.remove_prefix(end == rest_.npos ? rest_.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    ++number;
    return true;
  }
  std::string_view line;
  int64_t number = 0;

 private:
  std::string_view rest_;
};

std::string first_word(std::string_view header) {
  const size_t begin = header.find_first_not_of(" \t");
  return begin == header.npos ? "" : std::string(header.substr(begin, header.find_first_of(" \t", begin) - begin));
}

}  // namespace

Fasta::Fasta(const std::string& path, double held_out) : TokenText(path, held_out) {
  const MappedFile file(path);
  Lines lines({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()});
  const auto check_last = [&] {
    check<IoError>(records_.empty() || records_.back().length > 0, path, ":", lines.number, ": the record `",
                   records_.empty() ? "" : records_.back().name, "` before this line has no bases");
  };
  while (lines.next()) {
    if (lines.line.starts_with('>')) {
      check_last();
      if (!tokens_.empty()) tokens_.push_back(dna_separator);
      records_.push_back({first_word(lines.line.substr(1)), static_cast<int64_t>(tokens_.size()), 0});
      continue;
    }
    check<IoError>(lines.line.empty() || !records_.empty(), path, ":", lines.number,
                   ": a FASTA file begins with a line `>NAME`");
    for (const char c : lines.line) {
      const int16_t token = dna_vocabulary().token_of[static_cast<unsigned char>(c)];
      check<IoError>(token >= 0, path, ":", lines.number, ": `", std::string(1, c), "` is no nucleotide");
      tokens_.push_back(static_cast<uint8_t>(token));
    }
    if (!records_.empty()) records_.back().length += std::ssize(lines.line);
  }
  check_last();
  check<IoError>(!records_.empty(), path, ": no FASTA record in this file");
  set_tokens(tokens_);
}

StrandBatches::StrandBatches(std::shared_ptr<const TokenText> genome, int64_t batch_size, int64_t sequence_length,
                             uint64_t seed)
    : genome_(std::move(genome)), batch_size_(batch_size), sequence_length_(sequence_length), seed_(seed) {
  check_windows("StrandBatches", *genome_, batch_size, sequence_length);
}

Batch StrandBatches::at(int64_t index) const {
  constexpr uint8_t complement[dna_tokens] = {dna_t, dna_g, dna_c, dna_a, dna_n, dna_separator, dna_padding, dna_mask};
  const std::span<const uint8_t> tokens = genome_->training();
  const int64_t places = std::ssize(tokens) - sequence_length_;
  const std::vector<int64_t> drawn = draw_indices(seed_, index, batch_size_, 2 * places);
  const Batch batch = empty_batch(batch_size_, sequence_length_);
  for (int64_t row = 0; row < batch_size_; ++row) {
    const int64_t place = drawn[static_cast<size_t>(row)];
    const auto there = tokens.subspan(static_cast<size_t>(place % places), static_cast<size_t>(sequence_length_) + 1);
    std::vector<uint8_t> window(there.begin(), there.end());
    if (place >= places) {
      std::ranges::reverse(window);
      for (uint8_t& token : window) token = complement[token];
    }
    fill_row(batch, row, window);
  }
  return batch;
}

}  // namespace mahia::train
