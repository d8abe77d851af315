// SPDX-License-Identifier: Apache-2.0
#include "train/data/text.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/factory.hpp"

namespace mahia::train {
namespace {

// Row `row` of a batch: T bytes from `start`, and the T bytes one later.
void fill_row(const Batch& batch, int64_t row, std::span<const uint8_t> bytes, int64_t start) {
  const int64_t time = batch.tokens.size(1);
  int64_t* tokens = batch.tokens.output_view().data<int64_t>() + row * time;
  int64_t* targets = batch.targets.output_view().data<int64_t>() + row * time;
  for (int64_t t = 0; t < time; ++t) {
    tokens[t] = bytes[static_cast<size_t>(start + t)];
    targets[t] = bytes[static_cast<size_t>(start + t + 1)];
  }
}

Batch empty_batch(int64_t rows, int64_t time) {
  return {empty({rows, time}, DType::i64), empty({rows, time}, DType::i64)};
}

}  // namespace

ByteText::ByteText(const std::string& path, double held_out) : path_(path) {
  check<ValueError>(held_out >= 0 && held_out < 1, path, ": held_out is ", held_out, ", must be in [0, 1)");
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  check<IoError>(file >= 0, path, ": cannot open the text: ", std::strerror(errno));
  struct stat status {};
  const bool known = fstat(file, &status) == 0;
  bytes_ = known && S_ISREG(status.st_mode) ? static_cast<size_t>(status.st_size) : 0;
  void* data = bytes_ > 0 ? mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED;
  const int reason = errno;
  close(file);
  check<IoError>(bytes_ > 0, path, ": the text is empty or no regular file");
  check<IoError>(data != MAP_FAILED, path, ": cannot map the text: ", std::strerror(reason));
  data_ = static_cast<const uint8_t*>(data);
  split_ = bytes_ - static_cast<size_t>(static_cast<double>(bytes_) * held_out);
}

ByteText::~ByteText() { munmap(const_cast<uint8_t*>(data_), bytes_); }

TextBatches::TextBatches(std::shared_ptr<const ByteText> text, int64_t batch_size, int64_t sequence_length,
                         uint64_t seed)
    : text_(std::move(text)), batch_size_(batch_size), sequence_length_(sequence_length), seed_(seed) {
  check<ValueError>(batch_size >= 1 && sequence_length >= 1, "TextBatches: batch_size ", batch_size,
                    " and sequence_length ", sequence_length, " must be at least 1");
  check<ValueError>(static_cast<int64_t>(text_->training().size()) > sequence_length, text_->path(), ": ",
                    static_cast<int64_t>(text_->training().size()), " training bytes are too few for sequence_length ",
                    sequence_length);
}

Batch TextBatches::at(int64_t index) const {
  const std::span<const uint8_t> bytes = text_->training();
  const int64_t places = static_cast<int64_t>(bytes.size()) - sequence_length_;
  const std::vector<int64_t> starts = draw_indices(seed_, index, batch_size_, places);
  const Batch batch = empty_batch(batch_size_, sequence_length_);
  for (int64_t row = 0; row < batch_size_; ++row) fill_row(batch, row, bytes, starts[static_cast<size_t>(row)]);
  return batch;
}

std::vector<Batch> held_out_batches(const ByteText& text, int64_t batch_size, int64_t sequence_length,
                                    int64_t max_batches) {
  const std::span<const uint8_t> bytes = text.held_out();
  const int64_t targets = std::max<int64_t>(0, static_cast<int64_t>(bytes.size()) - 1);
  const int64_t windows = targets / sequence_length;
  std::vector<Batch> batches;
  const auto wanted = [&] { return max_batches < 0 || static_cast<int64_t>(batches.size()) < max_batches; };
  for (int64_t first = 0; first < windows && wanted(); first += batch_size) {
    batches.push_back(empty_batch(std::min(batch_size, windows - first), sequence_length));
    for (int64_t row = 0; row < batches.back().tokens.size(0); ++row) {
      fill_row(batches.back(), row, bytes, (first + row) * sequence_length);
    }
  }
  if (const int64_t rest = targets - windows * sequence_length; rest > 0 && wanted()) {
    batches.push_back(empty_batch(1, rest));
    fill_row(batches.back(), 0, bytes, windows * sequence_length);
  }
  return batches;
}

}  // namespace mahia::train
