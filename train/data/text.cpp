// SPDX-License-Identifier: Apache-2.0
#include "train/data/text.hpp"

#include <algorithm>

#include "core/factory.hpp"

namespace mahia::train {

TokenText::TokenText(const std::string& path, double held_out) : path_(path), share_(held_out) {
  check<ValueError>(held_out >= 0 && held_out < 1, path, ": held_out is ", held_out, ", must be in [0, 1)");
}

void TokenText::set_tokens(std::span<const uint8_t> tokens) {
  tokens_ = tokens;
  split_ = tokens.size() - static_cast<size_t>(static_cast<double>(tokens.size()) * share_);
}

ByteText::ByteText(const std::string& path, double held_out) : TokenText(path, held_out), file_(path) {
  set_tokens(file_.bytes());
}

Batch empty_batch(int64_t rows, int64_t time) {
  return {empty({rows, time}, DType::i64), empty({rows, time}, DType::i64)};
}

void fill_row(const Batch& batch, int64_t row, std::span<const uint8_t> window) {
  const int64_t offset = row * batch.tokens.size(1);
  std::copy(window.begin(), window.end() - 1, batch.tokens.output_view().data<int64_t>() + offset);
  std::copy(window.begin() + 1, window.end(), batch.targets.output_view().data<int64_t>() + offset);
}

void check_windows(const char* source, const TokenText& text, int64_t batch_size, int64_t sequence_length) {
  const auto size = static_cast<int64_t>(text.training().size());
  check<ValueError>(batch_size >= 1 && sequence_length >= 1, source, ": batch_size ", batch_size,
                    " and sequence_length ", sequence_length, " must be at least 1");
  check<ValueError>(size > sequence_length, text.path(), ": ", size,
                    " training tokens are too few for sequence_length ", sequence_length);
}

namespace {

// The T + 1 tokens from `start` on.
std::span<const uint8_t> window(std::span<const uint8_t> tokens, int64_t start, int64_t time) {
  return tokens.subspan(static_cast<size_t>(start), static_cast<size_t>(time) + 1);
}

}  // namespace

TextBatches::TextBatches(std::shared_ptr<const TokenText> text, int64_t batch_size, int64_t sequence_length,
                         uint64_t seed)
    : text_(std::move(text)), batch_size_(batch_size), sequence_length_(sequence_length), seed_(seed) {
  check_windows("TextBatches", *text_, batch_size, sequence_length);
}

Batch TextBatches::at(int64_t index) const {
  const std::span<const uint8_t> tokens = text_->training();
  const int64_t places = static_cast<int64_t>(tokens.size()) - sequence_length_;
  const std::vector<int64_t> starts = draw_indices(seed_, index, batch_size_, places);
  const Batch batch = empty_batch(batch_size_, sequence_length_);
  for (int64_t row = 0; row < batch_size_; ++row) {
    fill_row(batch, row, window(tokens, starts[static_cast<size_t>(row)], sequence_length_));
  }
  return batch;
}

std::vector<Batch> held_out_batches(const TokenText& text, int64_t batch_size, int64_t sequence_length,
                                    int64_t max_batches) {
  const std::span<const uint8_t> tokens = text.held_out();
  const int64_t targets = std::max<int64_t>(0, static_cast<int64_t>(tokens.size()) - 1);
  const int64_t windows = targets / sequence_length;
  std::vector<Batch> batches;
  const auto wanted = [&] { return max_batches < 0 || static_cast<int64_t>(batches.size()) < max_batches; };
  for (int64_t first = 0; first < windows && wanted(); first += batch_size) {
    batches.push_back(empty_batch(std::min(batch_size, windows - first), sequence_length));
    for (int64_t row = 0; row < batches.back().tokens.size(0); ++row) {
      fill_row(batches.back(), row, window(tokens, (first + row) * sequence_length, sequence_length));
    }
  }
  if (const int64_t rest = targets - windows * sequence_length; rest > 0 && wanted()) {
    batches.push_back(empty_batch(1, rest));
    fill_row(batches.back(), 0, window(tokens, windows * sequence_length, rest));
  }
  return batches;
}

}  // namespace mahia::train
