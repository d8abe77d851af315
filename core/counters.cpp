// SPDX-License-Identifier: Apache-2.0
#include "core/counters.hpp"

#include <mutex>

namespace mahia {
namespace {

std::mutex mutex;
Cost total;
std::atomic<int64_t> extra_launches{0};

}  // namespace

Counters counters() {
  const std::scoped_lock lock(mutex);
  const int64_t calls = kernel_calls.load(std::memory_order_relaxed);
  return {calls, calls + extra_launches.load(std::memory_order_relaxed), total.bytes, total.flops};
}

void reset_counters() {
  const std::scoped_lock lock(mutex);
  kernel_calls = 0;
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
