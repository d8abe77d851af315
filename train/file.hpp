// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace mahia::train {

// The calls to the operating system that change files, in one table: tests put failing ones in their place.
// Each works as the call of the same name: -1 and errno for a failure.
struct SystemCalls {
  int (*open)(const char* path, int flags, unsigned mode);
  int64_t (*write)(int file, const void* data, size_t bytes);
  int (*fsync)(int file);
  int (*close)(int file);
  int (*rename)(const char* from, const char* to);
  int (*unlink)(const char* path);
  int (*mkdir)(const char* path, unsigned mode);
  int (*symlink)(const char* target, const char* path);
  int (*ftruncate)(int file, int64_t bytes);
};
SystemCalls& system_calls();

// All of the bytes, however many calls it takes, and the flush to the disk; IoError calls the open file `path`.
void write_all(int file, std::span<const std::byte> bytes, const std::string& path);
void flush_file(int file, const std::string& path);

// A file that appears under its name complete or not at all: written beside it as NAME.tmp.PID, flushed to the disk,
// renamed over it, then the folder is flushed. Destroyed before commit(), it leaves what stood there before.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes) { write_all(file_, bytes, path_); }
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void commit();

 private:
  std::string path_, temporary_;
  int file_ = -1;
};

void write_file(const std::string& path, std::string_view text);  // by an AtomicFile
std::string read_file(const std::string& path);

// A folder and those above it, where they are missing.
void make_directories(const std::string& path);
// Flushes the names in a folder.
void sync_directory(const std::string& path);
// Lets the symbolic link `path` point at `target`; readers see the old or the new one.
void point_link(const std::string& path, const std::string& target);

// A regular file that is open for reading.
class InputFile {
 public:
  explicit InputFile(const std::string& path);  // throws IoError naming the file
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }
  // Throws IoError when the file ends earlier.
  void read(uint64_t offset, std::span<std::byte> into) const;

 private:
  std::string path_;
  int file_ = -1;
  uint64_t size_ = 0;
};

// XXH3, 64 bits.
class Digest {
 public:
  static constexpr size_t digits = 16;
  Digest();
  void add(std::span<const std::byte> bytes);
  void add(std::string_view text) { add(std::as_bytes(std::span(text))); }
  std::string hex() const;

 private:
  std::unique_ptr<void, void (*)(void*)> state_;
};

}  // namespace mahia::train
