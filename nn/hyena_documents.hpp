// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../core/tensor.hpp"

namespace mahia::nn {

// Documents that stand one after the other in the rows of a batch (B, T), and how to take them apart: documents of
// about one length, from any row, become the rows of a batch of their own, from position 0 on. Built on the host once a
// batch, for all layers; its tensors are on the batch's device.
class PackedDocuments {
 public:
  // Documents whose lengths have the same power of two above them, 16 at least: a length that depends on the document
  // alone, and so do its results.
  struct Group {
    int64_t count, length;
    Tensor positions;  // i64 (count * length): places in the flattened batch
    Tensor inside;     // bool (count, length): false behind the document's end
  };

  // starts[b]: where the documents of row b begin, rising from 0. Throws ValueError.
  PackedDocuments(const std::vector<std::vector<int64_t>>& starts, int64_t time, Device device = cpu_device);

  int64_t rows() const { return rows_; }        // B
  int64_t time() const { return time_; }        // T
  int64_t longest() const { return longest_; }  // the length of the longest document
  const std::vector<Group>& groups() const { return groups_; }
  // z (C, B, T) -> (C, count, length). Behind a document's end stand copies of its first value.
  static Tensor gathered(const Tensor& z, const Group& group);
  // One (D, count, length) per group -> (D, B, T).
  Tensor scattered(const Tensors& parts) const;

 private:
  int64_t rows_, time_, longest_ = 0;
  std::vector<Group> groups_;
  Tensor origins_;  // i64 (B * T): where each place of the batch stands among the groups' places
};

}  // namespace mahia::nn
