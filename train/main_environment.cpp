// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <regex>
#include <vector>

#include "core/runtime.hpp"
#include "train/main_commands.hpp"

extern char** environ;

namespace mahia::train {
namespace {

struct Variable {
  const char* name;
  const char* allowed;  // in words
  const char* pattern;  // the same as a regular expression
};

constexpr Variable variables[] = {
    {"MAHIA_NUM_THREADS", "a whole number from 1 to 9999", "[1-9][0-9]{0,3}"},
    {"MAHIA_DEVICE", "cpu, cuda or cuda:N", "cpu|cuda(:[0-9]{1,3})?"},
    {"MAHIA_SEED", "a whole number from 0 to 999999999999999", "[0-9]{1,15}"},
    {"MAHIA_DETERMINISTIC", "1: mahia is always deterministic", "1"},
    {"MAHIA_LOG", "error, warning or info", "error|warning|info"},
    {"MAHIA_CHECK_NAN", "0 or 1", "[01]"},
    {"MAHIA_SYNC", "0 or 1", "[01]"},
    {"MAHIA_CPU_ISA", "avx2 or avx512", "avx2|avx512"},
    {"MAHIA_CUDA_CACHE", "0 or 1", "[01]"},
    {"MAHIA_CUDA_GUARD", "0 or 1", "[01]"},
    {"MAHIA_BENCH_CASE", "any text", ".*"},
};

std::string value_of(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void check_allowed(const Variable& variable) {
  const std::string value = value_of(variable.name);
  check<UsageError>(value.empty() || std::regex_match(value, std::regex(variable.pattern)), variable.name, " is `",
                    value, "`; allowed: ", variable.allowed);
}

void warn_about_unknown() {
  std::vector<std::string> known;
  for (const Variable& variable : variables) known.emplace_back(variable.name);
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string name(*entry, std::strcspn(*entry, "="));
    if (!name.starts_with("MAHIA_") || std::find(known.begin(), known.end(), name) != known.end()) continue;
    std::fprintf(stderr, "mahia: warning: unknown variable %s; did you mean %s?\n", name.c_str(),
                 nearest(name, known).c_str());
  }
}

}  // namespace

Environment read_environment() {
  const std::string log = value_of("MAHIA_LOG");
  if (log != "error") warn_about_unknown();
  for (const Variable& variable : variables) check_allowed(variable);
  Environment e;
  if (const std::string device = value_of("MAHIA_DEVICE"); !device.empty()) e.device = device;
  if (const std::string seed = value_of("MAHIA_SEED"); !seed.empty()) e.seed = std::stoll(seed);
  e.check_nan = value_of("MAHIA_CHECK_NAN") == "1";
  e.quiet = log == "error" || log == "warning";
  return e;
}

Device device_for(const std::string& option, const Environment& environment) {
  try {
    const Device device = parse_device(option.empty() ? environment.device : option);
    synchronize(device);  // throws when it is not there
    return device;
  } catch (const ValueError& error) {
    throw UsageError(error.what());
  }
}

}  // namespace mahia::train
