// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

#include "../../core/tensor.hpp"

namespace mahia::train {

// What one micro-step trains on. For a language model both are (B, T) i64; other models choose their own shapes.
struct Batch {
  Tensor tokens;
  Tensor targets;
  std::shared_ptr<Storage> block = {};  // of both tensors, from pinned() and packed(): one copy moves them
  Batch to(Device device) const;
  Batch packed(Device device) const;  // on the device
  Batch pinned(Device device) const;  // in memory that `device` reads by itself; the batch itself for the CPU
};

// Training batches as a pure function of their number and a seed: where a run stands in its data is one integer, and a
// resumed run sees the batches that the uninterrupted one would have seen.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  virtual Batch at(int64_t index) const = 0;  // called from the prefetch thread
};

// Several sources one after the other, as a warm-up of the sequence length wants them (Nguyen et al. 2023, HyenaDNA,
// section 3.2): the first `batches` numbers belong to the first stage, and so on; what is beyond all stages to the
// last.
class StagedBatches : public BatchSource {
 public:
  struct Stage {
    int64_t batches;
    std::shared_ptr<const BatchSource> source;
  };
  explicit StagedBatches(std::vector<Stage> stages);  // at least one
  Batch at(int64_t index) const override;

 private:
  std::vector<Stage> stages_;
};

// Makes batches ahead of time on a thread of its own, at most `depth` of them.
class Prefetcher {
 public:
  // Batches are pinned for `device`.
  Prefetcher(std::shared_ptr<const BatchSource> source, int64_t first, Device device = cpu_device, size_t depth = 3);
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;
  // The next batch in order; rethrows what the source threw.
  Batch next();
  int64_t cursor() const { return cursor_; }  // the number of the batch that next() returns

 private:
  void run(int64_t first);

  std::shared_ptr<const BatchSource> source_;
  Device device_;
  size_t depth_;
  int64_t cursor_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Batch> ready_;
  std::exception_ptr error_;
  bool stop_ = false;
  std::thread thread_;
};

// `count` numbers uniform in [0, range), a pure function of seed and batch number.
std::vector<int64_t> draw_indices(uint64_t seed, int64_t index, int64_t count, int64_t range);

// Batches drawn with replacement from the rows (first axis) of tensors that are already in memory.
class TensorBatches : public BatchSource {
 public:
  // inputs (N, ...), targets (N, ...). Throws ShapeError when N differs or is 0.
  TensorBatches(Tensor inputs, Tensor targets, int64_t batch_size, uint64_t seed);
  Batch at(int64_t index) const override;

 private:
  Tensor inputs_, targets_;
  int64_t batch_size_;
  uint64_t key_;
};

}  // namespace mahia::train
