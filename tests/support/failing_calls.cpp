// SPDX-License-Identifier: Apache-2.0
#include "tests/support/failing_calls.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace mahia::tests {
namespace {

// The table holds plain functions, so what they share stands here; one FailingCalls lives at a time.
train::SystemCalls real;
FailingCalls::Plan plan;
size_t longest;
int calls;

// True, with errno set, when this call is to fail.
bool fails() {
  const int error = plan(calls++);
  if (error != 0) errno = error;
  return error != 0;
}

template <auto Call, class... Args>
auto planned(Args... args) -> decltype((real.*Call)(args...)) {
  if (fails()) return -1;
  return (real.*Call)(args...);
}

int64_t planned_write(int file, const void* data, size_t bytes) {
  if (fails()) return -1;
  return real.write(file, data, std::min(bytes, longest));
}

// Tests look at what the running system sees, so nothing waits for the disk.
int planned_fsync(int) { return fails() ? -1 : 0; }

// Linux closes the file even if close() reports a failure.
int planned_close(int file) {
  const bool bad = fails();
  const int error = errno;
  const int closed = real.close(file);
  errno = error;
  return bad ? -1 : closed;
}

}  // namespace

FailingCalls::FailingCalls(Plan p, size_t longest_write) : before_(train::system_calls()) {
  real = before_;
  plan = std::move(p);
  longest = longest_write;
  calls = 0;
  using train::SystemCalls;
  train::system_calls() = {
      .open = planned<&SystemCalls::open, const char*, int, unsigned>,
      .write = planned_write,
      .fsync = planned_fsync,
      .close = planned_close,
      .rename = planned<&SystemCalls::rename, const char*, const char*>,
      .unlink = planned<&SystemCalls::unlink, const char*>,
      .mkdir = planned<&SystemCalls::mkdir, const char*, unsigned>,
      .symlink = planned<&SystemCalls::symlink, const char*, const char*>,
      .ftruncate = planned<&SystemCalls::ftruncate, int, int64_t>,
  };
}

FailingCalls::~FailingCalls() { train::system_calls() = before_; }

int FailingCalls::count() const { return calls; }

int count_calls(const std::function<void()>& save) {
  const FailingCalls counted([](int) { return 0; });
  save();
  return counted.count();
}

}  // namespace mahia::tests
