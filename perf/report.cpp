// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/parallel.hpp"
#include "core/runtime.hpp"
#include "perf/harness.hpp"

namespace mahia::perf {
namespace {

// The value of the first line `key ... : value` of a file under /proc.
std::string proc_value(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (line.starts_with(key) && colon != std::string::npos) {
      const size_t first = line.find_first_not_of(" \t", colon + 1);
      return first == std::string::npos ? "" : line.substr(first);
    }
  }
  return "";
}

double peak_resident_mib() {
  std::istringstream text(proc_value("/proc/self/status", "VmHWM"));
  double kib = 0;
  text >> kib;
  return kib / 1024;
}

// The commit of the checkout the program was built from; git itself may be absent.
std::string commit() {
  const std::string folder = std::string(MAHIA_SOURCE_DIR) + "/.git";
  std::ifstream head(folder + "/HEAD");
  std::string line;
  if (!std::getline(head, line)) return "unknown";
  if (!line.starts_with("ref: ")) return line.substr(0, 12);
  std::ifstream ref(folder + "/" + line.substr(5));
  return std::getline(ref, line) ? line.substr(0, 12) : "unknown";
}

double rounded(double x) { return std::stod(fmt::format("{:.4g}", x)); }

}  // namespace

std::string json_line(const Case& c, const Timing& timing) {
  const Spread& s = timing.seconds;
  nlohmann::ordered_json line = {{"case", c.name},
                                 {"ms", rounded(s.median * 1e3)},
                                 {"q1", rounded(s.first_quartile * 1e3)},
                                 {"q3", rounded(s.third_quartile * 1e3)},
                                 {"min", rounded(s.minimum * 1e3)},
                                 {"max", rounded(s.maximum * 1e3)},
                                 {"reps", timing.batches},
                                 {"threads", num_threads()},
                                 {"lib", "mahia"}};
  if (c.flops > 0) line["GFLOPs"] = rounded(c.flops / s.median * 1e-9);
  if (c.tokens > 0) line["tok_s"] = rounded(c.tokens / s.median);
  line["peak_MiB"] = rounded(c.device == cpu_device ? peak_resident_mib()
                                                    : static_cast<double>(memory_stats(c.device).peak) / (1 << 20));
  return line.dump();
}

std::string machine_line() {
  const std::string flags = proc_value("/proc/cpuinfo", "flags");
  const bool wide = flags.find("avx512f") != std::string::npos;
  return fmt::format("{} ({}), {} threads, commit {}", proc_value("/proc/cpuinfo", "model name"),
                     wide ? "AVX-512" : "AVX2", num_threads(), commit());
}

}  // namespace mahia::perf
