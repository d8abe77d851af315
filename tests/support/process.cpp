// SPDX-License-Identifier: Apache-2.0
#include "tests/support/process.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <stdexcept>
#include <thread>

#include "train/file.hpp"

namespace mahia::tests {

namespace {

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> out;
  for (const std::string& word : words) out.push_back(const_cast<char*>(word.c_str()));
  out.push_back(nullptr);
  return out;
}

std::vector<std::string> preceded(const std::string& first, const std::vector<std::string>& words) {
  std::vector<std::string> all = {first};
  all.insert(all.end(), words.begin(), words.end());
  return all;
}

}  // namespace

Process::Process(const std::vector<std::string>& words, const std::vector<std::string>& variables,
                 const std::string& folder) {
  std::vector<std::string> environment = variables;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  const int flags = O_WRONLY | O_CREAT | O_TRUNC;
  if (!folder.empty()) {
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, (folder + "/out").c_str(), flags, 0666);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, (folder + "/err").c_str(), flags, 0666);
  }
  const int failed =
      posix_spawn(&process_, words[0].c_str(), &files, nullptr, pointers(words).data(), pointers(environment).data());
  posix_spawn_file_actions_destroy(&files);
  if (failed != 0) throw std::runtime_error("cannot start " + words[0]);
}

Process::~Process() {
  if (process_ < 0) return;
  signal(SIGKILL);
  wait();
}

void Process::signal(int number) const { ::kill(process_, number); }

int Process::wait() {
  int status = 0;
  while (waitpid(process_, &status, 0) < 0 && errno == EINTR) continue;
  process_ = -1;
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

Child::Child(const std::vector<std::string>& arguments)
    : Process(preceded(std::filesystem::read_symlink("/proc/self/exe").string() + "-child", arguments)) {}

Program::Program(const std::string& folder, const std::vector<std::string>& arguments,
                 const std::vector<std::string>& variables)
    : Process(preceded(MAHIA_BUILD_DIR "/bin/mahia", arguments), variables, folder), folder_(folder) {}

std::string Program::out() const { return train::read_file(folder_ + "/out"); }
std::string Program::err() const { return train::read_file(folder_ + "/err"); }

int run_and_kill(const std::vector<std::string>& arguments, std::chrono::microseconds after) {
  Child child(arguments);
  std::this_thread::sleep_for(after);
  child.signal(SIGKILL);
  return child.wait();
}

}  // namespace mahia::tests
