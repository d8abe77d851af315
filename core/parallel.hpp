// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace mahia {

// A borrowed callable body(begin, end); does not outlive the call it is passed to.
class RangeBody {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, RangeBody>) RangeBody(F&& body)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(body)))),
        call_([](void* object, int64_t begin, int64_t end) {
          (*static_cast<std::remove_reference_t<F>*>(object))(begin, end);
        }) {}
  void operator()(int64_t begin, int64_t end) const { call_(object_, begin, end); }

 private:
  void* object_;
  void (*call_)(void*, int64_t, int64_t);
};

// Runs body(begin, end) over [0, n) cut in tiles of `tile` (the last may be shorter), on the CPU's worker threads.
// The cut depends on n and tile alone, so a body that is a pure function of its tile gives the same bits for any number
// of threads. A wait inside a body never runs another body on the same stack. An exception of a body is thrown here.
void parallel_rows(int64_t n, int64_t tile, RangeBody body);

// Worker threads in use: the smallest of MAHIA_NUM_THREADS, the process's CPU affinity and its cgroup quota, unless
// set.
int num_threads();
void set_num_threads(int n);  // throws ValueError for n < 1

}  // namespace mahia
