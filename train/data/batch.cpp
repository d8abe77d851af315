// SPDX-License-Identifier: Apache-2.0
#include "train/data/batch.hpp"

#include <cstring>

#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/random.hpp"
#include "core/runtime.hpp"

namespace mahia::train {

Batch Batch::to(Device device) const {
  return {copy_to(tokens, device, tokens.dtype()),
          targets.defined() ? copy_to(targets, device, targets.dtype()) : targets};
}

namespace {

constexpr size_t alignment = 256;

size_t room_for(const Tensor& x) {
  const size_t bytes = x.defined() ? static_cast<size_t>(x.numel()) * size_of(x.dtype()) : 0;
  return (bytes + alignment - 1) / alignment * alignment;
}

size_t room_for(const Batch& batch) { return room_for(batch.tokens) + room_for(batch.targets); }

// A copy of x that begins `begin` bytes into the block.
Tensor placed(const Tensor& x, const std::shared_ptr<Storage>& block, size_t begin) {
  if (!x.defined()) return x;
  const Tensor y(block, x.shape(), contiguous_strides(x.shape()), static_cast<int64_t>(begin / size_of(x.dtype())),
                 x.dtype());
  if (y.numel() > 0) overwrite(x, y);
  return y;
}

Batch placed(const Batch& batch, const std::shared_ptr<Storage>& block) {
  return {placed(batch.tokens, block, 0), placed(batch.targets, block, room_for(batch.tokens)), block};
}

}  // namespace

Batch Batch::packed(Device device) const { return placed(*this, std::make_shared<Storage>(device, room_for(*this))); }

Batch Batch::pinned(Device device) const {
  const size_t bytes = room_for(*this);
  DeviceRuntime& owner = runtime(device.type);
  void* const data = bytes > 0 ? owner.allocate_pinned(device, bytes) : nullptr;
  if (data == nullptr) return *this;
  return placed(*this, std::make_shared<Storage>(cpu_device, data, bytes,
                                                 [&owner, device, data] { owner.release_pinned(device, data); }));
}

std::vector<int64_t> draw_indices(uint64_t seed, int64_t index, int64_t count, int64_t range) {
  std::vector<int64_t> drawn;
  for (int64_t i = 0; i < count; ++i) {
    const auto words = philox({static_cast<uint32_t>(i), static_cast<uint32_t>(index),
                               static_cast<uint32_t>(static_cast<uint64_t>(index) >> 32), 0xda7au},
                              {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
    const uint64_t word = (static_cast<uint64_t>(words[1]) << 32) | words[0];
    drawn.push_back(static_cast<int64_t>((static_cast<unsigned __int128>(word) * static_cast<uint64_t>(range)) >> 64));
  }
  return drawn;
}

StagedBatches::StagedBatches(std::vector<Stage> stages) : stages_(std::move(stages)) {
  check<ValueError>(!stages_.empty(), "StagedBatches: there is no stage");
}

Batch StagedBatches::at(int64_t index) const {
  int64_t begin = 0;
  for (const Stage& stage : stages_) {
    begin += stage.batches;
    if (index < begin) return stage.source->at(index);
  }
  return stages_.back().source->at(index);
}

Prefetcher::Prefetcher(std::shared_ptr<const BatchSource> source, int64_t first, Device device, size_t depth)
    : source_(std::move(source)), device_(device), depth_(depth), cursor_(first), thread_([this, first] {
        run(first);
      }) {}

Prefetcher::~Prefetcher() {
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Prefetcher::run(int64_t first) {
  for (int64_t index = first;; ++index) {
    Batch batch;
    std::exception_ptr error;
    try {
      batch = source_->at(index).pinned(device_);
    } catch (...) {
      error = std::current_exception();  // handed over to next()
    }
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stop_ || ready_.size() < depth_; });
    if (stop_) return;
    error_ = error;
    if (!error) ready_.push_back(std::move(batch));
    lock.unlock();
    changed_.notify_all();
    if (error) return;
  }
}

Batch Prefetcher::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !ready_.empty() || error_; });
  if (ready_.empty()) std::rethrow_exception(error_);
  Batch batch = std::move(ready_.front());
  ready_.pop_front();
  ++cursor_;
  lock.unlock();
  changed_.notify_all();
  return batch;
}

namespace {

// Rows `rows` of x (N, ...), copied.
Tensor take_rows(const Tensor& x, const std::vector<int64_t>& rows) {
  Shape shape = x.shape();
  shape[0] = static_cast<int64_t>(rows.size());
  const Tensor y = empty(shape, x.dtype(), cpu_device);
  const size_t bytes = static_cast<size_t>(x.numel() / x.size(0)) * size_of(x.dtype());
  const auto* from = static_cast<const std::byte*>(ConstView(x).raw());
  auto* to = static_cast<std::byte*>(y.output_view().raw());
  for (size_t i = 0; i < rows.size(); ++i)
    std::memcpy(to + i * bytes, from + static_cast<size_t>(rows[i]) * bytes, bytes);
  return y;
}

}  // namespace

TensorBatches::TensorBatches(Tensor inputs, Tensor targets, int64_t batch_size, uint64_t seed)
    : inputs_(copy_to(inputs, cpu_device, inputs.dtype())),
      targets_(copy_to(targets, cpu_device, targets.dtype())),
      batch_size_(batch_size),
      key_(seed) {
  check<ShapeError>(
      inputs.rank() >= 1 && targets.rank() >= 1 && inputs.size(0) == targets.size(0) && inputs.size(0) > 0,
      "TensorBatches: inputs and targets need the same number of rows, at least one: ", inputs, ", ", targets);
  check<ValueError>(batch_size >= 1, "TensorBatches: batch_size is ", batch_size, ", must be at least 1");
}

Batch TensorBatches::at(int64_t index) const {
  return {take_rows(inputs_, draw_indices(key_, index, batch_size_, inputs_.size(0))),
          take_rows(targets_, draw_indices(key_, index, batch_size_, inputs_.size(0)))};
}

}  // namespace mahia::train
