// SPDX-License-Identifier: Apache-2.0
#include "core/kernel.hpp"

#include <algorithm>

#include "core/runtime.hpp"

namespace mahia {
namespace {

// Filled while the library loads, before any other thread exists.
std::vector<const KernelBase*>& slots() {
  static std::vector<const KernelBase*> all;
  return all;
}

}  // namespace

std::vector<const KernelBase*> all_kernels() { return slots(); }

void KernelBase::add(DeviceType type, AnyFunction function) {
  const auto i = static_cast<size_t>(type);
  if (std::find(slots().begin(), slots().end(), this) == slots().end()) slots().push_back(this);
  functions_[i] = registered_[i]++ == 0 ? function : nullptr;
}

void KernelBase::wait_for(Device device) { synchronize(device); }

// The innermost slot's name stands: slots call each other.
void KernelBase::throw_named(const DeviceError& error) const {
  const std::string_view what = error.what();
  for (const KernelBase* slot : slots()) {
    const std::string_view name = slot->name();
    if (what.starts_with(name) && what.substr(name.size()).starts_with(": ")) throw DeviceError(error);
  }
  fail<DeviceError>(name_, ": ", what);
}

void KernelBase::throw_missing(DeviceType type) const {
  check<MissingKernel>(registered_[static_cast<size_t>(type)] < 2, name_, ": registered twice for ", type);
  std::string others;
  for (int i = 0; i < device_type_count; ++i) {
    if (registered_[i] == 0) continue;
    if (!others.empty()) others += ", ";
    others += name_of(static_cast<DeviceType>(i));
  }
  fail<MissingKernel>(name_, ": no kernel for ", type, "; registered for: ", others.empty() ? "none" : others);
}

void KernelBase::throw_mixed_devices(std::span<const ConstView* const> operands) const {
  std::string list;
  for (const ConstView* view : operands) {
    if (!view->defined()) continue;
    if (!list.empty()) list += ", ";
    describe(list, *view);
  }
  fail<DeviceError>(name_, ": operands are on different devices: ", list);
}

}  // namespace mahia
