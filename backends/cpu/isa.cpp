// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <cstdlib>

namespace mahia::cpu {
namespace {

// The whole library is compiled for x86-64-v3. This runs before every other initialiser, with a message instead of an
// illegal instruction; nothing could catch an exception here, so the process ends.
__attribute__((constructor(101), target("arch=x86-64"))) void require_baseline() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) return;
  std::fputs("mahia: this CPU lacks AVX2, FMA or BMI2 (x86-64-v3), which mahia is built for\n", stderr);
  std::_Exit(1);
}

}  // namespace
}  // namespace mahia::cpu
