// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "../core/device.hpp"
#include "statistics.hpp"

namespace mahia::perf {

// One thing to time. `prepare` makes the operands and returns the work; only the work is timed.
struct Case {
  std::string name;  // GROUP.PASS.SHAPE, as the rivals spell it
  std::function<std::function<void()>()> prepare;
  double flops = 0;            // of one call; 0: not stated
  double tokens = 0;           // of one call; 0: not a training step
  Device device = cpu_device;  // where it works: the clock stops when that has finished
  int least_batches = 10;      // fewer where one takes a minute
};

// Adds cases while the program loads: `const Cases conv_cases([] { return std::vector<Case>{...}; });`
class Cases {
 public:
  explicit Cases(std::function<std::vector<Case>()> make);
};
// All cases whose name contains `filter`, in the order of their names.
std::vector<Case> find_cases(const std::string& filter);

// Seconds of one call: calls are grouped into batches of at least 5 ms, at least `minimum_batches` of them and about
// `budget` seconds after a warm-up.
struct Timing {
  Spread seconds;
  int64_t batches = 0;
  int64_t calls_per_batch = 0;
};
Timing time_work(const std::function<void()>& work, double budget, Device device = cpu_device,
                 int minimum_batches = 10);

// One line of JSON: case, ms (median), quartiles, min, max, threads, lib, GFLOP/s and tokens/s where stated, the peak
// resident set in MiB.
std::string json_line(const Case& c, const Timing& timing);
// CPU model, vector width, threads, commit, as one line of text.
std::string machine_line();

// Runs our program and the rival's in turn, case by case, each in a process of its own with the same thread count, and
// prints the ratio of their medians with quartiles. `rival` is a shell command that finds the case's name in
// MAHIA_BENCH_CASE and prints lines of JSON with "case" (that name, or that name and ".MODE") and "ms".
// Returns how many cases the rival answered.
int compare(const std::string& program, const std::string& rival, const std::vector<Case>& cases, int rounds,
            double budget);

}  // namespace mahia::perf
