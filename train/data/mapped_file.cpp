// SPDX-License-Identifier: Apache-2.0
#include "train/data/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.hpp"

namespace mahia::train {

MappedFile::MappedFile(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  check<IoError>(file >= 0, path, ": cannot open the text: ", std::strerror(errno));
  struct stat status {};
  const bool known = fstat(file, &status) == 0;
  const size_t size = known && S_ISREG(status.st_mode) ? static_cast<size_t>(status.st_size) : 0;
  void* data = size > 0 ? mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED;
  const int reason = errno;
  close(file);
  check<IoError>(size > 0, path, ": the text is empty or no regular file");
  check<IoError>(data != MAP_FAILED, path, ": cannot map the text: ", std::strerror(reason));
  bytes_ = {static_cast<const uint8_t*>(data), size};
}

MappedFile::~MappedFile() { munmap(const_cast<uint8_t*>(bytes_.data()), bytes_.size()); }

}  // namespace mahia::train
