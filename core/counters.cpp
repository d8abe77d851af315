// SPDX-License-Identifier: Apache-2.0
#include "core/counters.hpp"

#include <mutex>

#include "core/kernel.hpp"

namespace mahia {
namespace {

std::mutex mutex;
Cost total;
std::atomic<int64_t> launches{0}, host_waits{0};
int64_t calls_at_reset = 0;

// Each slot counts its own calls; one more counter for all would cost every call another locked addition.
int64_t calls_of_all_slots() {
  int64_t calls = 0;
  for (const KernelBase* kernel : all_kernels()) calls += kernel->calls();
  return calls;
}

}  // namespace

Counters counters() {
  const std::scoped_lock lock(mutex);
  const int64_t calls = calls_of_all_slots() - calls_at_reset;
  return {calls, launches.load(std::memory_order_relaxed), host_waits.load(std::memory_order_relaxed), total.bytes,
          total.flops};
}

void reset_counters() {
  const std::scoped_lock lock(mutex);
  calls_at_reset = calls_of_all_slots();
  launches = 0;
  host_waits = 0;
  total = {};
}

void count_costs(bool on) { counting_costs = on; }

void add_cost(const Cost& cost) {
  const std::scoped_lock lock(mutex);
  total.bytes += cost.bytes;
  total.flops += cost.flops;
}

void add_launches(int64_t n) { launches.fetch_add(n, std::memory_order_relaxed); }
void add_host_wait() { host_waits.fetch_add(1, std::memory_order_relaxed); }

}  // namespace mahia
