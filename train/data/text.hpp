// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>

#include "batch.hpp"
#include "mapped_file.hpp"

namespace mahia::train {

// A long sequence of tokens, a byte each, whose end is held out.
class TokenText {
 public:
  std::span<const uint8_t> training() const { return tokens_.first(split_); }
  std::span<const uint8_t> held_out() const { return tokens_.subspan(split_); }
  const std::string& path() const { return path_; }

 protected:
  // Throws ValueError for a share outside [0, 1).
  TokenText(const std::string& path, double held_out);
  ~TokenText() = default;
  TokenText(const TokenText&) = delete;
  TokenText& operator=(const TokenText&) = delete;
  // The tokens, which live as long as this. The last `held_out` of them (rounded down) are never trained on.
  void set_tokens(std::span<const uint8_t> tokens);

 private:
  std::string path_;
  double share_;
  std::span<const uint8_t> tokens_;
  size_t split_ = 0;
};

// A file, memory-mapped: the bytes are the tokens.
class ByteText : public TokenText {
 public:
  // Throws IoError, naming the file, when it is missing or empty, ValueError for a share outside [0, 1).
  explicit ByteText(const std::string& path, double held_out = 0.1);

 private:
  MappedFile file_;
};

// A batch (B, T) that is still to be filled, and its row from T + 1 neighbouring tokens.
Batch empty_batch(int64_t rows, int64_t time);
void fill_row(const Batch& batch, int64_t row, std::span<const uint8_t> window);
// Throws ValueError, naming the source of batches, unless the training part has room for a window of T + 1 tokens.
void check_windows(const char* source, const TokenText& text, int64_t batch_size, int64_t sequence_length);

// Training batches: B windows of T + 1 tokens at uniformly drawn places; targets are the tokens one place later.
class TextBatches : public BatchSource {
 public:
  // Throws ValueError when the training part is shorter than one window.
  TextBatches(std::shared_ptr<const TokenText> text, int64_t batch_size, int64_t sequence_length, uint64_t seed);
  Batch at(int64_t index) const override;

 private:
  std::shared_ptr<const TokenText> text_;
  int64_t batch_size_, sequence_length_;
  uint64_t seed_;
};

// The held-out part cut in neighbouring windows of T targets, B windows a batch; what is left over makes a last,
// shorter batch, so that every token but the first is predicted exactly once. `max_batches` < 0: all of it.
std::vector<Batch> held_out_batches(const TokenText& text, int64_t batch_size, int64_t sequence_length,
                                    int64_t max_batches = -1);

}  // namespace mahia::train
