// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

namespace mahia::train {

// While it lives, the first SIGINT or SIGTERM is only noted; the second of its kind ends the process.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  int received() const;  // the signal's number, or 0

 private:
  struct Actions;
  std::unique_ptr<Actions> before_;
};

}  // namespace mahia::train
