// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "../core/dtype.hpp"
#include "../core/shape.hpp"

namespace mahia::train {

using Metadata = std::map<std::string, std::string>;

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  uint64_t begin = 0, end = 0;  // bytes, counted from the first byte after the header
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> tensors;  // in the order of their bytes
  Metadata metadata;
};

inline constexpr uint64_t max_header_bytes = 100'000'000;
inline constexpr size_t max_tensors = 100'000;
inline constexpr size_t max_name_bytes = 4096;

// Parses the JSON of a header that stands before `data_bytes` bytes of values. The text is not trusted: anything but
// what the format allows, including values that leave a hole, overlap or miss the end, throws IoError, naming `path`,
// the tensor and the byte of the file.
SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t data_bytes, const std::string& path);

// The JSON of a header; entries and metadata must be well-formed.
std::string write_safetensors_header(const SafetensorsHeader& header);

}  // namespace mahia::train
