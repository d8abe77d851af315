// SPDX-License-Identifier: Apache-2.0
#include "tests/support/warnings.hpp"

#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <cstdio>

namespace mahia::tests {

std::string warnings_of(const std::function<void()>& fn) {
  std::FILE* file = std::tmpfile();
  BOOST_REQUIRE(file != nullptr);
  std::fflush(stderr);
  const int kept = dup(STDERR_FILENO);
  dup2(fileno(file), STDERR_FILENO);
  fn();
  std::fflush(stderr);
  dup2(kept, STDERR_FILENO);
  close(kept);
  std::string text(static_cast<size_t>(std::ftell(file)), ' ');
  std::rewind(file);
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  return text;
}

}  // namespace mahia::tests
