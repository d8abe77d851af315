// SPDX-License-Identifier: Apache-2.0
#include "tests/support/program.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <stdexcept>

#include "train/file.hpp"

namespace mahia::tests {
namespace {

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> out;
  for (const std::string& word : words) out.push_back(const_cast<char*>(word.c_str()));
  out.push_back(nullptr);
  return out;
}

}  // namespace

Program::Program(const std::string& folder, const std::vector<std::string>& arguments,
                 const std::vector<std::string>& variables)
    : folder_(folder) {
  std::vector<std::string> words = {MAHIA_BUILD_DIR "/bin/mahia"}, environment = variables;
  words.insert(words.end(), arguments.begin(), arguments.end());
  for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  const int flags = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, (folder + "/out").c_str(), flags, 0666);
  posix_spawn_file_actions_addopen(&files, STDERR_FILENO, (folder + "/err").c_str(), flags, 0666);
  const int failed =
      posix_spawn(&process_, words[0].c_str(), &files, nullptr, pointers(words).data(), pointers(environment).data());
  posix_spawn_file_actions_destroy(&files);
  if (failed != 0) throw std::runtime_error("cannot start " + words[0]);
}

Program::~Program() {
  if (process_ < 0) return;
  signal(SIGKILL);
  wait();
}

void Program::signal(int number) const { ::kill(process_, number); }

int Program::wait() {
  int status = 0;
  while (waitpid(process_, &status, 0) < 0 && errno == EINTR) continue;
  process_ = -1;
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

std::string Program::out() const { return train::read_file(folder_ + "/out"); }
std::string Program::err() const { return train::read_file(folder_ + "/err"); }

}  // namespace mahia::tests
