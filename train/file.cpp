// SPDX-License-Identifier: Apache-2.0
#include "train/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "core/error.hpp"

namespace mahia::train {
namespace {

// The call once more whenever a signal interrupted it.
template <class Call>
auto uninterrupted(Call&& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

[[noreturn]] void refuse(const std::string& path, const char* what) {
  fail<IoError>(path, ": ", what, ": ", std::strerror(errno));
}

std::string folder_of(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  return folder.empty() ? "." : folder.string();
}

std::string temporary_name(const std::string& path) { return path + ".tmp." + std::to_string(getpid()); }

constexpr SystemCalls real_calls = {
    .open = [](const char* path, int flags, unsigned mode) { return ::open(path, flags, mode); },
    .write = [](int file, const void* data, size_t bytes) -> int64_t { return ::write(file, data, bytes); },
    .fsync = ::fsync,
    .close = ::close,
    .rename = ::rename,
    .unlink = ::unlink,
    .mkdir = [](const char* path, unsigned mode) { return ::mkdir(path, mode); },
    .symlink = ::symlink,
    .ftruncate = [](int file, int64_t bytes) { return ::ftruncate(file, bytes); },
};

}  // namespace

SystemCalls& system_calls() {
  static SystemCalls calls = real_calls;
  return calls;
}

void write_all(int file, std::span<const std::byte> bytes, const std::string& path) {
  while (!bytes.empty()) {
    const int64_t written = uninterrupted([&] { return system_calls().write(file, bytes.data(), bytes.size()); });
    if (written < 0) refuse(path, "cannot write");
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void flush_file(int file, const std::string& path) {
  if (uninterrupted([&] { return system_calls().fsync(file); }) < 0) refuse(path, "cannot flush");
}

AtomicFile::AtomicFile(const std::string& path) : path_(path), temporary_(temporary_name(path)) {
  const auto open = [&] {
    return uninterrupted(
        [&] { return system_calls().open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); });
  };
  file_ = open();
  if (file_ < 0 && errno == EEXIST) {  // left by a process of the same number that was killed
    system_calls().unlink(temporary_.c_str());
    file_ = open();
  }
  if (file_ < 0) refuse(path_, "cannot create it");
}

AtomicFile::~AtomicFile() {
  if (file_ >= 0) system_calls().close(file_);
  if (!temporary_.empty()) system_calls().unlink(temporary_.c_str());
}

void AtomicFile::commit() {
  flush_file(file_, path_);
  // Linux closes the file whatever close() returns, so it is not called twice.
  const int closed = system_calls().close(std::exchange(file_, -1));
  if (closed < 0 && errno != EINTR) refuse(path_, "cannot close");
  const auto rename = [&] { return system_calls().rename(temporary_.c_str(), path_.c_str()); };
  if (uninterrupted(rename) < 0) refuse(path_, "cannot rename");
  temporary_.clear();
  sync_directory(folder_of(path_));
}

void write_file(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

std::string read_file(const std::string& path) {
  const InputFile file(path);
  std::string text(file.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

void make_directories(const std::string& path) {
  if (path.empty() || std::filesystem::is_directory(path)) return;
  const std::string parent = folder_of(path);
  if (parent != path) make_directories(parent);
  const int made = uninterrupted([&] { return system_calls().mkdir(path.c_str(), 0777); });
  if (made != 0 && errno != EEXIST) refuse(path, "cannot make the folder");
  if (made == 0) sync_directory(parent);
}

void sync_directory(const std::string& path) {
  const int folder =
      uninterrupted([&] { return system_calls().open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0); });
  if (folder < 0) refuse(path, "cannot open the folder");
  const int flushed = uninterrupted([&] { return system_calls().fsync(folder); });
  const int reason = errno;
  system_calls().close(folder);
  errno = reason;
  if (flushed < 0) refuse(path, "cannot flush the folder");
}

void point_link(const std::string& path, const std::string& target) {
  const std::string temporary = temporary_name(path);
  const auto link = [&] {
    return uninterrupted([&] { return system_calls().symlink(target.c_str(), temporary.c_str()); });
  };
  int made = link();
  if (made < 0 && errno == EEXIST) {
    system_calls().unlink(temporary.c_str());
    made = link();
  }
  if (made != 0) refuse(path, "cannot make the link");
  if (uninterrupted([&] { return system_calls().rename(temporary.c_str(), path.c_str()); }) < 0) {
    const int reason = errno;
    system_calls().unlink(temporary.c_str());
    errno = reason;
    refuse(path, "cannot rename the link");
  }
  sync_directory(folder_of(path));
}

InputFile::InputFile(const std::string& path) : path_(path) {
  // Without waiting, so that a pipe is refused and not waited for.
  file_ = uninterrupted([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); });
  if (file_ < 0) refuse(path, "cannot open it");
  struct stat status {};
  if (fstat(file_, &status) == 0 && S_ISREG(status.st_mode)) {
    size_ = static_cast<uint64_t>(status.st_size);
    return;
  }
  ::close(file_);
  fail<IoError>(path, ": is no regular file");
}

InputFile::~InputFile() { ::close(file_); }

void InputFile::read(uint64_t offset, std::span<std::byte> into) const {
  while (!into.empty()) {
    const auto got = uninterrupted([&] { return pread(file_, into.data(), into.size(), static_cast<off_t>(offset)); });
    if (got < 0) refuse(path_, "cannot read");
    check<IoError>(got > 0, path_, ": ends at byte ", offset, ", ", into.size(), " bytes too early");
    offset += static_cast<uint64_t>(got);
    into = into.subspan(static_cast<size_t>(got));
  }
}

Digest::Digest() : state_(XXH3_createState(), [](void* state) { XXH3_freeState(static_cast<XXH3_state_t*>(state)); }) {
  XXH3_64bits_reset(static_cast<XXH3_state_t*>(state_.get()));
}

void Digest::add(std::span<const std::byte> bytes) {
  XXH3_64bits_update(static_cast<XXH3_state_t*>(state_.get()), bytes.data(), bytes.size());
}

std::string Digest::hex() const {
  char text[digits + 1];
  const uint64_t value = XXH3_64bits_digest(static_cast<const XXH3_state_t*>(state_.get()));
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

}  // namespace mahia::train
