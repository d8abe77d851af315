// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace mahia {

// Work done since the process began or since reset_counters(). Bytes and FLOPs come from the slots' cost functions and
// are added up only while count_costs(true) holds.
struct Counters {
  int64_t kernel_calls = 0;
  int64_t launches = 0;    // kernels started on GPUs
  int64_t host_waits = 0;  // times the host waited for a GPU
  double bytes = 0;
  double flops = 0;
};

Counters counters();
void reset_counters();
void count_costs(bool on);

// What one kernel call moves and computes.
struct Cost {
  double bytes = 0;
  double flops = 0;
};

void add_cost(const Cost& cost);
void add_launches(int64_t n);
void add_host_wait();

// Read by every slot on every call, so inline.
inline constinit std::atomic<bool> counting_costs{false};

}  // namespace mahia
