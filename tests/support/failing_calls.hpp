// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "train/file.hpp"

namespace mahia::tests {

// While it lives, the calls that change files are counted and fail as planned; the real ones come back with its end.
class FailingCalls {
 public:
  // errno of call number `n` (0, 1, ...), or 0 to let it through.
  using Plan = std::function<int(int n)>;
  explicit FailingCalls(Plan plan, size_t longest_write = SIZE_MAX);
  ~FailingCalls();
  FailingCalls(const FailingCalls&) = delete;
  FailingCalls& operator=(const FailingCalls&) = delete;

  int count() const;  // calls so far

 private:
  train::SystemCalls before_;
};

// The number of calls that `save` makes when none fails.
int count_calls(const std::function<void()>& save);

}  // namespace mahia::tests
