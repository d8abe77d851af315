// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

namespace mahia::tests {

// A process that a test started; killed when this ends before it does.
class Process {
 public:
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void signal(int number) const;
  // Waits for the end; the exit code, or minus the signal that ended it.
  int wait();

 protected:
  // words: the program and its arguments. With `folder`, its output goes to the files `out` and `err` there.
  explicit Process(const std::vector<std::string>& words, const std::vector<std::string>& variables = {},
                   const std::string& folder = {});

 private:
  pid_t process_ = -1;
};

// The program mahia-tests-child, running beside the test.
class Child : public Process {
 public:
  explicit Child(const std::vector<std::string>& arguments);
};

// The program mahia, started with arguments and, added to this process's environment, variables ("NAME=value").
// What it writes goes to files in `folder`.
class Program : public Process {
 public:
  Program(const std::string& folder, const std::vector<std::string>& arguments,
          const std::vector<std::string>& variables = {});
  std::string out() const;
  std::string err() const;

 private:
  std::string folder_;
};

// Starts a child, lets it run that long, and ends it with SIGKILL. The result of wait().
int run_and_kill(const std::vector<std::string>& arguments, std::chrono::microseconds after);

}  // namespace mahia::tests
