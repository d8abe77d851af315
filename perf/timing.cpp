// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>

#include "core/runtime.hpp"
#include "perf/harness.hpp"

namespace mahia::perf {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double shortest_batch = 5e-3;  // seconds; the clock and the loop cost less than 1e-5 of it

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double time_batch(const std::function<void()>& work, int64_t calls, Device device) {
  const auto start = Clock::now();
  for (int64_t i = 0; i < calls; ++i) work();
  synchronize(device);
  return seconds_since(start);
}

std::vector<std::function<std::vector<Case>()>>& makers() {
  static std::vector<std::function<std::vector<Case>()>> all;
  return all;
}

}  // namespace

Cases::Cases(std::function<std::vector<Case>()> make) { makers().push_back(std::move(make)); }

std::vector<Case> find_cases(const std::string& filter) {
  std::map<std::string, Case> found;
  for (const auto& make : makers()) {
    for (Case& c : make()) {
      if (c.name.find(filter) != std::string::npos) found.emplace(c.name, std::move(c));
    }
  }
  std::vector<Case> cases;
  for (auto& [name, c] : found) cases.push_back(std::move(c));
  return cases;
}

Timing time_work(const std::function<void()>& work, double budget, Device device, int minimum_batches) {
  int64_t calls = 1;
  double batch = time_batch(work, 1, device);  // the first call builds plans and fills caches
  batch = time_batch(work, 1, device);
  while (batch < shortest_batch) {
    calls = std::max(
        calls + 1,
        std::min(calls * 10, static_cast<int64_t>(1.2 * shortest_batch / batch * static_cast<double>(calls)) + 1));
    batch = time_batch(work, calls, device);
  }
  std::vector<double> sample;
  const auto start = Clock::now();
  while (static_cast<int>(sample.size()) < minimum_batches || seconds_since(start) < budget) {
    sample.push_back(time_batch(work, calls, device) / static_cast<double>(calls));
  }
  const auto batches = static_cast<int64_t>(sample.size());
  return {spread_of(std::move(sample)), batches, calls};
}

}  // namespace mahia::perf
