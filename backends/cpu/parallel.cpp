// SPDX-License-Identifier: Apache-2.0
#include "core/parallel.hpp"

#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>
#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>

#include "core/error.hpp"

namespace mahia {
namespace {

// CPUs that the cgroup's quota pays for, rounded up; a large number without one.
int quota_threads() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 1 << 20;
  double micros = 0;
  const auto [end, status] = std::from_chars(quota.data(), quota.data() + quota.size(), micros);
  return status == std::errc{} ? std::max(1, static_cast<int>(micros / period + 0.999)) : 1 << 20;
}

int affinity_threads() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

int wanted_threads() {
  const int machine = std::min(affinity_threads(), quota_threads());
  const char* text = std::getenv("MAHIA_NUM_THREADS");
  if (text == nullptr || *text == '\0') return machine;
  const std::string_view value(text);
  int n = 0;
  const auto [end, status] = std::from_chars(value.data(), value.data() + value.size(), n);
  check<ValueError>(status == std::errc{} && end == value.data() + value.size() && n >= 1, "MAHIA_NUM_THREADS: `",
                    value, "` is not a number >= 1");
  return std::min(n, machine);
}

struct Pool {
  explicit Pool(int n)
      : threads(n),
        control(tbb::global_control::max_allowed_parallelism, static_cast<size_t>(std::max(n, affinity_threads()))),
        arena(n) {}
  int threads;
  tbb::global_control control;
  tbb::task_arena arena;
};

std::mutex pool_mutex;
std::shared_ptr<Pool> pool;

std::shared_ptr<Pool> current_pool() {
  const std::scoped_lock lock(pool_mutex);
  if (!pool) {
    pool = std::make_shared<Pool>(wanted_threads());
  }
  return pool;
}

thread_local bool inside_task = false;

// Tiles inside a running body are worked off in order by the same thread.
void run_in_order(int64_t n, int64_t tile, const RangeBody& body) {
  for (int64_t begin = 0; begin < n; begin += tile) body(begin, std::min(n, begin + tile));
}

}  // namespace

void parallel_rows(int64_t n, int64_t tile, RangeBody body) {
  check<ValueError>(tile >= 1, "parallel_rows: tile is ", tile, ", must be at least 1");
  if (n <= tile || inside_task) {
    run_in_order(n, tile, body);
    return;
  }
  const std::shared_ptr<Pool> workers = current_pool();
  if (workers->threads == 1) {
    run_in_order(n, tile, body);
    return;
  }
  const int64_t tiles = (n + tile - 1) / tile;
  workers->arena.execute([&] {
    tbb::this_task_arena::isolate([&] {
      tbb::parallel_for(tbb::blocked_range<int64_t>(0, tiles, 1), [&](const tbb::blocked_range<int64_t>& range) {
        const bool before = inside_task;
        inside_task = true;
        try {
          for (int64_t i = range.begin(); i < range.end(); ++i) body(i * tile, std::min(n, (i + 1) * tile));
        } catch (...) {
          inside_task = before;
          throw;
        }
        inside_task = before;
      });
    });
  });
}

int num_threads() { return current_pool()->threads; }

void set_num_threads(int n) {
  check<ValueError>(n >= 1, "set_num_threads: ", n, ", must be at least 1");
  const std::scoped_lock lock(pool_mutex);
  pool.reset();
  pool = std::make_shared<Pool>(n);
}

}  // namespace mahia
