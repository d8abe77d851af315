// SPDX-License-Identifier: Apache-2.0
#include "tests/support/source_tree.hpp"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace mahia::tests {
namespace {

namespace fs = std::filesystem;

const fs::path root = MAHIA_SOURCE_DIR;

bool is_word_character(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

// The offset behind the comment or literal that begins at i; i itself where none does.
size_t skip_comment_or_literal(std::string_view text, size_t i) {
  const auto behind = [&](std::string_view end, size_t from) {
    const size_t found = text.find(end, from);
    return found == text.npos ? text.size() : found + end.size();
  };
  if (text.substr(i, 2) == "//") return std::min(text.find('\n', i), text.size());
  if (text.substr(i, 2) == "/*") return behind("*/", i + 2);
  if (text.substr(i, 2) == "R\"") {
    const size_t open = text.find('(', i);
    return behind(")" + std::string(text.substr(i + 2, open - i - 2)) + "\"", open);
  }
  const char quote = text[i];
  const bool digit_separator = quote == '\'' && i > 0 && is_word_character(text[i - 1]);
  if ((quote != '"' && quote != '\'') || digit_separator) return i;
  size_t end = i + 1;
  while (end < text.size() && text[end] != quote) end += text[end] == '\\' ? 2 : 1;
  return std::min(end + 1, text.size());
}

std::string without_comments_and_literals(const std::string& text) {
  std::string code = text;
  for (size_t i = 0; i < text.size();) {
    const size_t end = skip_comment_or_literal(text, i);
    for (size_t k = i; k < end; ++k) {
      if (code[k] != '\n') code[k] = ' ';
    }
    i = std::max(end, i + 1);
  }
  return code;
}

std::vector<std::string> ignored_names() {
  std::vector<std::string> names;
  const std::string text = read_source(".gitignore");
  for (std::string_view line : lines_of(text)) {
    if (line.starts_with('/') && line.ends_with('/')) names.emplace_back(line.substr(1, line.size() - 2));
  }
  return names;
}

std::vector<std::string> find_paths() {
  const std::vector<std::string> ignored = ignored_names();
  std::vector<std::string> paths;
  for (auto entry = fs::recursive_directory_iterator(root); entry != fs::end(entry); ++entry) {
    const std::string path = entry->path().lexically_relative(root).generic_string();
    const bool hidden = entry->path().filename().string().starts_with('.');
    if (hidden || std::ranges::find(ignored, path) != ignored.end()) {
      entry.disable_recursion_pending();
    } else {
      paths.push_back(path);
    }
  }
  std::ranges::sort(paths);
  return paths;
}

std::vector<SourceFile> read_sources() {
  std::vector<SourceFile> files;
  for (const std::string& path : source_paths()) {
    const std::string extension = fs::path(path).extension().string();
    if (extension != ".hpp" && extension != ".cpp" && extension != ".cu" && extension != ".cuh") continue;
    files.push_back(parse_source(path, read_source(path)));
  }
  return files;
}

}  // namespace

SourceFile parse_source(const std::string& path, std::string text) {
  std::string code = without_comments_and_literals(text);
  return {path, path.substr(0, path.find('/')), fs::path(path).stem().string(), std::move(text), std::move(code)};
}

const std::vector<SourceFile>& source_files() {
  static const std::vector<SourceFile> files = read_sources();
  return files;
}

const std::vector<std::string>& source_paths() {
  static const std::vector<std::string> paths = find_paths();
  return paths;
}

std::string read_source(const std::string& path) {
  std::ifstream in(root / path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + (root / path).string());
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

int line_number(std::string_view text, size_t offset) {
  return 1 + static_cast<int>(std::ranges::count(text.substr(0, offset), '\n'));
}

size_t matching_close(std::string_view code, size_t open) {
  int depth = 0;
  for (size_t i = open; i < code.size(); ++i) {
    if (std::string_view("([{").find(code[i]) != code.npos) ++depth;
    if (std::string_view(")]}").find(code[i]) != code.npos && --depth == 0) return i + 1;
  }
  return code.npos;
}

std::vector<std::string_view> split_outside_brackets(std::string_view code, char separator) {
  std::vector<std::string_view> parts;
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i <= code.size(); ++i) {
    if (i == code.size() || (depth == 0 && code[i] == separator)) {
      if (const std::string_view part = trim(code.substr(begin, i - begin)); !part.empty()) parts.push_back(part);
      begin = i + 1;
    } else if (std::string_view("([{").find(code[i]) != code.npos) {
      ++depth;
    } else if (std::string_view(")]}").find(code[i]) != code.npos) {
      --depth;
    }
  }
  return parts;
}

std::string_view trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

bool has_word(std::string_view code, std::string_view word) {
  for (size_t i = code.find(word); i != code.npos; i = code.find(word, i + 1)) {
    const size_t end = i + word.size();
    if ((i == 0 || !is_word_character(code[i - 1])) && (end == code.size() || !is_word_character(code[end])))
      return true;
  }
  return false;
}

}  // namespace mahia::tests
