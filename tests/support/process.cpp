// SPDX-License-Identifier: Apache-2.0
#include "tests/support/process.hpp"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <stdexcept>
#include <thread>

namespace mahia::tests {

Child::Child(const std::vector<std::string>& arguments) {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string() + "-child";
  std::vector<char*> words = {const_cast<char*>(program.c_str())};
  for (const std::string& word : arguments) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  if (posix_spawn(&process_, program.c_str(), nullptr, nullptr, words.data(), environ) != 0) {
    throw std::runtime_error("cannot start " + program);
  }
}

Child::~Child() {
  if (process_ < 0) return;
  signal(SIGKILL);
  wait();
}

void Child::signal(int number) const { ::kill(process_, number); }

int Child::wait() {
  int status = 0;
  while (waitpid(process_, &status, 0) < 0 && errno == EINTR) continue;
  process_ = -1;
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

int run_and_kill(const std::vector<std::string>& arguments, std::chrono::microseconds after) {
  Child child(arguments);
  std::this_thread::sleep_for(after);
  child.signal(SIGKILL);
  return child.wait();
}

}  // namespace mahia::tests
