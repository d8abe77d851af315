// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/parallel.hpp"
#include "perf/harness.hpp"

namespace mahia::perf {
namespace {

// Milliseconds by case name, from the JSON lines a command prints; other lines are ignored.
std::map<std::string, double> run(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  check<IoError>(pipe != nullptr, "bench: cannot start `", command, "`");
  std::string text;
  char buffer[4096];
  while (std::fgets(buffer, sizeof buffer, pipe.get()) != nullptr) text += buffer;
  std::map<std::string, double> times;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const auto line = nlohmann::json::parse(text.substr(begin, end - begin), nullptr, false);
    begin = end + 1;
    if (line.is_object() && line.contains("case") && line.contains("ms")) times[line["case"]] = line["ms"];
  }
  return times;
}

std::string quoted(const std::string& word) {
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

struct Sample {
  std::vector<double> ours, theirs, ratio;
};

void print_rows(const std::string& name, const std::map<std::string, Sample>& samples) {
  if (samples.empty()) fmt::print("{:<44} the rival did not answer\n", name);
  for (const auto& [rival_case, sample] : samples) {
    const Spread ratio = spread_of(sample.ratio);
    fmt::print("{:<44} {:>10.4g} {:>10.4g} {:>8.2f}   {:.2f} .. {:.2f}   n={}\n", rival_case,
               spread_of(sample.ours).median, spread_of(sample.theirs).median, ratio.median, ratio.first_quartile,
               ratio.third_quartile, sample.ratio.size());
  }
  std::fflush(stdout);
}

}  // namespace

int compare(const std::string& program, const std::string& rival, const std::vector<Case>& cases, int rounds,
            double budget) {
  const std::string threads = std::to_string(num_threads());
  for (const char* variable : {"MAHIA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"}) {
    setenv(variable, threads.c_str(), 1);
  }
  fmt::print("{:<44} {:>10} {:>10} {:>8}   quartiles of the ratio\n", "case of the rival", "ours ms", "rival ms",
             "rival/us");
  int answered = 0;
  for (const Case& c : cases) {
    setenv("MAHIA_BENCH_CASE", c.name.c_str(), 1);
    std::map<std::string, Sample> samples;
    for (int round = 0; round < rounds; ++round) {
      const auto ours = run(fmt::format("{} --exact {} --budget {}", quoted(program), quoted(c.name), budget));
      check<Error>(ours.contains(c.name), "bench: our own process failed on ", c.name);
      const auto theirs = run(rival);
      if (round == 0 && theirs.empty()) break;
      for (const auto& [name, ms] : theirs) {
        if (name != c.name && !name.starts_with(c.name + ".")) continue;
        Sample& sample = samples[name];
        sample.ours.push_back(ours.at(c.name));
        sample.theirs.push_back(ms);
        sample.ratio.push_back(ms / ours.at(c.name));
      }
    }
    answered += samples.empty() ? 0 : 1;
    print_rows(c.name, samples);
  }
  return answered;
}

}  // namespace mahia::perf
