// SPDX-License-Identifier: Apache-2.0
#include "core/counters.hpp"

#include <mutex>

#include "core/kernel.hpp"

namespace mahia {
namespace {

std::mutex mutex;
Cost total;
std::atomic<int64_t> extra_launches{0};
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
  return {calls, calls + extra_launches.load(std::memory_order_relaxed), total.bytes, total.flops};
}

void reset_counters() {
  const std::scoped_lock lock(mutex);
  calls_at_reset = calls_of_all_slots();
  extra_launches = 0;
  total = {};
}

void count_costs(bool on) { counting_costs = on; }

void add_cost(const Cost& cost) {
  const std::scoped_lock lock(mutex);
  total.bytes += cost.bytes;
  total.flops += cost.flops;
}

void add_launches(int64_t n) { extra_launches.fetch_add(n, std::memory_order_relaxed); }

}  // namespace mahia
