// SPDX-License-Identifier: Apache-2.0
#include "core/error.hpp"

#include <charconv>
#include <cstdio>

namespace mahia {

void warn(std::string_view text) {
  std::fprintf(stderr, "mahia: warning: %.*s\n", static_cast<int>(text.size()), text.data());
}

void describe(std::string& out, std::string_view part) { out += part; }

void describe(std::string& out, int64_t part) { out += std::to_string(part); }

void describe(std::string& out, double part) {
  char buffer[32];
  const auto [end, status] = std::to_chars(buffer, buffer + sizeof buffer, part);
  out.append(buffer, end);
}

}  // namespace mahia
