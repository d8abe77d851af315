// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

namespace mahia::tests {

// What fn writes to standard error.
std::string warnings_of(const std::function<void()>& fn);

}  // namespace mahia::tests
