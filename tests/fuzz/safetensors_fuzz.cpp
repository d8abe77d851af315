// SPDX-License-Identifier: Apache-2.0
// libFuzzer: whatever a safetensors file holds, reading it returns tensors or throws IoError.
//   cmake --preset fuzz && cmake --build --preset fuzz --target safetensors-fuzz
//   build/fuzz/bin/safetensors-fuzz -max_total_time=60 CORPUS tests/fixtures
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "core/error.hpp"
#include "train/safetensors.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  static const int file = memfd_create("safetensors", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  if (ftruncate(file, 0) != 0 || pwrite(file, data, bytes, 0) != static_cast<ssize_t>(bytes)) return -1;
  try {
    mahia::train::load_safetensors(path);
  } catch (const mahia::IoError&) {
    return 0;
  }
  return 0;
}
