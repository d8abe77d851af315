// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>

#include "batch.hpp"

namespace mahia::train {

// A file as bytes, memory-mapped: the operating system reads the parts that are used.
class ByteText {
 public:
  // The last `held_out` of the bytes (rounded down) are never trained on. Throws IoError, naming the file, when it is
  // missing or empty, ValueError for a share outside [0, 1).
  explicit ByteText(const std::string& path, double held_out = 0.1);
  ~ByteText();
  ByteText(const ByteText&) = delete;
  ByteText& operator=(const ByteText&) = delete;

  std::span<const uint8_t> training() const { return {data_, split_}; }
  std::span<const uint8_t> held_out() const { return {data_ + split_, bytes_ - split_}; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  const uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
  size_t split_ = 0;
};

// Training batches: B windows of T + 1 bytes at uniformly drawn places; targets are the tokens one byte later.
class TextBatches : public BatchSource {
 public:
  // Throws ValueError when the training part is shorter than one window.
  TextBatches(std::shared_ptr<const ByteText> text, int64_t batch_size, int64_t sequence_length, uint64_t seed);
  Batch at(int64_t index) const override;

 private:
  std::shared_ptr<const ByteText> text_;
  int64_t batch_size_, sequence_length_;
  uint64_t seed_;
};

// The held-out part cut in neighbouring windows of T targets, B windows a batch; what is left over makes a last,
// shorter batch, so that every byte but the first is predicted exactly once. `max_batches` < 0: all of it.
std::vector<Batch> held_out_batches(const ByteText& text, int64_t batch_size, int64_t sequence_length,
                                    int64_t max_batches = -1);

}  // namespace mahia::train
