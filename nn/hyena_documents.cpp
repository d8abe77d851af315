// SPDX-License-Identifier: Apache-2.0
#include "nn/hyena_documents.hpp"

#include <algorithm>
#include <bit>
#include <map>

#include "core/copy.hpp"
#include "core/factory.hpp"
#include "ops/cat.hpp"
#include "ops/index.hpp"
#include "ops/shape.hpp"

namespace mahia::nn {
namespace {

constexpr int64_t shortest_group = 16;

struct Document {
  int64_t place, length;  // of its first position in the flattened batch
};

int64_t group_length(const Document& d) {
  return std::max(shortest_group, static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(d.length))));
}

std::vector<Document> documents_of(const std::vector<std::vector<int64_t>>& starts, int64_t time) {
  std::vector<Document> documents;
  for (size_t b = 0; b < starts.size(); ++b) {
    const std::vector<int64_t>& row = starts[b];
    check<ValueError>(!row.empty() && row[0] == 0, "PackedDocuments: the first document of row ", b,
                      " must begin at 0");
    for (size_t i = 0; i < row.size(); ++i) {
      const int64_t end = i + 1 < row.size() ? row[i + 1] : time;
      check<ValueError>(row[i] < end, "PackedDocuments: row ", b, " has a document from ", row[i], " to ", end,
                        "; starts must rise and stay below the ", time, " time steps");
      documents.push_back({static_cast<int64_t>(b) * time + row[i], end - row[i]});
    }
  }
  return documents;
}

Tensor on(Device device, const Tensor& x) { return copy_to(x, device, x.dtype()); }

}  // namespace

PackedDocuments::PackedDocuments(const std::vector<std::vector<int64_t>>& starts, int64_t time, Device device)
    : rows_(static_cast<int64_t>(starts.size())), time_(time) {
  std::map<int64_t, std::vector<Document>> by_length;
  for (const Document& d : documents_of(starts, time)) {
    by_length[group_length(d)].push_back(d);
    longest_ = std::max(longest_, d.length);
  }
  std::vector<int64_t> origins(static_cast<size_t>(rows_ * time_));
  int64_t origin = 0;
  for (const auto& [length, documents] : by_length) {
    const auto count = static_cast<int64_t>(documents.size());
    std::vector<int64_t> positions;
    std::vector<uint8_t> inside;
    for (const Document& d : documents) {
      for (int64_t i = 0; i < length; ++i, ++origin) {
        const bool is_inside = i < d.length;
        positions.push_back(d.place + (is_inside ? i : 0));
        inside.push_back(is_inside ? 1 : 0);
        if (is_inside) origins[static_cast<size_t>(d.place + i)] = origin;
      }
    }
    const Tensor flags = copy_to(Tensor::from(inside, {count, length}), device, DType::boolean);
    groups_.push_back({count, length, on(device, Tensor::from(positions, {count * length})), flags});
  }
  origins_ = on(device, Tensor::from(origins, {rows_ * time_}));
}

Tensor PackedDocuments::gathered(const Tensor& z, const Group& group) {
  const Tensor flat = index_select(reshape(z, {z.size(0), -1}), 1, group.positions);
  return reshape(flat, {z.size(0), group.count, group.length});
}

Tensor PackedDocuments::scattered(const Tensors& parts) const {
  Tensors flat;
  for (const Tensor& part : parts) flat.push_back(reshape(part, {part.size(0), -1}));
  return reshape(index_select(cat(flat, 1), 1, origins_), {parts[0].size(0), rows_, time_});
}

}  // namespace mahia::nn
