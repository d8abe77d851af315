// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace mahia::tests {

// The program mahia, started with arguments and, added to this process's environment, variables ("NAME=value").
// What it writes goes to files in `folder`.
class Program {
 public:
  Program(const std::string& folder, const std::vector<std::string>& arguments,
          const std::vector<std::string>& variables = {});
  ~Program();  // kills it if it still runs
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void signal(int number) const;
  int wait();  // for its end; the exit code, or minus the signal that ended it
  std::string out() const;
  std::string err() const;

 private:
  std::string folder_;
  pid_t process_ = -1;
};

}  // namespace mahia::tests
