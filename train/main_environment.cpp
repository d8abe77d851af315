// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "core/device.hpp"
#include "train/main_commands.hpp"

extern char** environ;

namespace mahia::train {
namespace {

// The variables and, where they are few, the allowed values.
struct Variable {
  const char* name;
  std::vector<std::string> allowed;
};

const std::vector<Variable>& variables() {
  static const std::vector<Variable> known = {{"MAHIA_NUM_THREADS", {}},
                                              {"MAHIA_DEVICE", {}},
                                              {"MAHIA_SEED", {}},
                                              {"MAHIA_DETERMINISTIC", {"1"}},
                                              {"MAHIA_LOG", {"error", "warning", "info", "debug"}},
                                              {"MAHIA_CHECK_NAN", {"0", "1"}},
                                              {"MAHIA_SYNC", {"0", "1"}},
                                              {"MAHIA_CPU_ISA", {"avx2", "avx512"}},
                                              {"MAHIA_BENCH_CASE", {}}};
  return known;
}

std::string value_of(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void check_allowed(const Variable& variable) {
  const std::string value = value_of(variable.name);
  if (value.empty() || variable.allowed.empty()) return;
  std::string list;
  for (const std::string& allowed : variable.allowed) list += (list.empty() ? "" : ", ") + allowed;
  const bool known = std::find(variable.allowed.begin(), variable.allowed.end(), value) != variable.allowed.end();
  check<ValueError>(known, variable.name, ": `", value, "` is not one of ", list);
}

void warn_about_unknown() {
  std::vector<std::string> known;
  for (const Variable& variable : variables()) known.emplace_back(variable.name);
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string name(*entry, std::strcspn(*entry, "="));
    if (!name.starts_with("MAHIA_") || std::find(known.begin(), known.end(), name) != known.end()) continue;
    std::fprintf(stderr, "mahia: warning: unknown variable %s; did you mean %s?\n", name.c_str(),
                 nearest(name, known).c_str());
  }
}

}  // namespace

Environment read_environment() {
  warn_about_unknown();
  for (const Variable& variable : variables()) check_allowed(variable);
  Environment e;
  if (const std::string device = value_of("MAHIA_DEVICE"); !device.empty()) {
    parse_device(device);
    e.device = device;
  }
  if (const std::string seed = value_of("MAHIA_SEED"); !seed.empty()) {
    const auto [end, status] = std::from_chars(seed.data(), seed.data() + seed.size(), e.seed);
    check<ValueError>(status == std::errc{} && end == seed.data() + seed.size() && e.seed >= 0, "MAHIA_SEED: `", seed,
                      "` is not a whole number >= 0");
  }
  e.check_nan = value_of("MAHIA_CHECK_NAN") == "1";
  return e;
}

}  // namespace mahia::train
