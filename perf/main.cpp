// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <cstdio>

#include "core/error.hpp"
#include "core/parallel.hpp"
#include "core/runtime.hpp"
#include "perf/harness.hpp"

namespace {

struct Options {
  std::string filter, exact, rival;
  int rounds = 10;
  double budget = 1;
  int threads = 0;
  bool list = false;
};

int run(const Options& options, const char* program) {
  using namespace mahia::perf;
  if (options.threads > 0) mahia::set_num_threads(options.threads);
  std::vector<Case> cases = find_cases(options.exact.empty() ? options.filter : options.exact);
  if (!options.exact.empty()) std::erase_if(cases, [&](const Case& c) { return c.name != options.exact; });
  mahia::check<mahia::ValueError>(!cases.empty(), "bench: no case matches `", options.filter, options.exact, "`");
  if (options.list) {
    for (const Case& c : cases) std::puts(c.name.c_str());
    return 0;
  }
  if (options.exact.empty()) std::fprintf(stderr, "%s\n", machine_line().c_str());
  if (!options.rival.empty()) {
    return compare(program, options.rival, cases, options.rounds, options.budget) > 0 ? 0 : 1;
  }
  int failed = 0;
  for (const Case& c : cases) {
    mahia::reset_peak_memory_stats(c.device);
    try {
      std::puts(json_line(c, time_work(c.prepare(), options.budget, c.device, c.least_batches)).c_str());
    } catch (const mahia::Error& error) {  // such as too little memory on a small card; the others can still run
      std::fprintf(stderr, "%s: %s\n", c.name.c_str(), error.what());
      failed = 1;
    }
    std::fflush(stdout);
    mahia::empty_cache(c.device);
  }
  return failed;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Times mahia's kernels, layers and training steps; one line of JSON per case on standard output.");
  Options options;
  app.add_option("filter", options.filter, "only cases whose name contains this, for example conv.fwdbwd");
  app.add_option("--exact", options.exact, "only the case of this name");
  app.add_option("--rival", options.rival, "alternate with this shell command, which reads MAHIA_BENCH_CASE");
  app.add_option("--rounds", options.rounds, "processes of each side per case, with --rival")
      ->check(CLI::Range(10, 1000));
  app.add_option("--budget", options.budget, "seconds per case and process")->check(CLI::PositiveNumber);
  app.add_option("--threads", options.threads, "worker threads, instead of MAHIA_NUM_THREADS")
      ->check(CLI::PositiveNumber);
  app.add_flag("--list", options.list, "print the names of the cases");
  CLI11_PARSE(app, argc, argv);
  try {
    return run(options, argv[0]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mahia-bench: %s\n", error.what());
    return 1;
  }
}
