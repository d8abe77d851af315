// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mahia::tests {

// One C++ or CUDA source of the checkout.
struct SourceFile {
  std::string path;    // from the root, "ops/softmax.hpp"
  std::string folder;  // its first part, "ops"
  std::string stem;    // "softmax"
  std::string text;
  std::string code;  // text with comments and the insides of literals blanked: same length, same lines
  bool is_header() const { return path.ends_with(".hpp") || path.ends_with(".cuh"); }
};

SourceFile parse_source(const std::string& path, std::string text);

// All sources, sorted by path; read once.
const std::vector<SourceFile>& source_files();

// Folders and files of the checkout from the root, without hidden ones and without what .gitignore names.
const std::vector<std::string>& source_paths();

// A file of the checkout, whole.
std::string read_source(const std::string& path);

std::vector<std::string_view> lines_of(std::string_view text);
int line_number(std::string_view text, size_t offset);

// The offset behind the bracket that closes the one at `open`; npos if none does.
size_t matching_close(std::string_view code, size_t open);

// Parts between the separators that stand outside of all brackets, trimmed.
std::vector<std::string_view> split_outside_brackets(std::string_view code, char separator);
std::string_view trim(std::string_view text);

// True when `word` occurs in `code` with no letter, digit or underscore beside it.
bool has_word(std::string_view code, std::string_view word);

}  // namespace mahia::tests
