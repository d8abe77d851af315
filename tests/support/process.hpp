// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

namespace mahia::tests {

// The program mahia-tests-child, running beside the test.
class Child {
 public:
  explicit Child(const std::vector<std::string>& arguments);
  ~Child();  // kills it if it still runs
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void signal(int number) const;
  // Waits for the end; the exit code, or minus the signal that ended it.
  int wait();

 private:
  pid_t process_ = -1;
};

// Starts a child, lets it run that long, and ends it with SIGKILL. The result of wait().
int run_and_kill(const std::vector<std::string>& arguments, std::chrono::microseconds after);

}  // namespace mahia::tests
