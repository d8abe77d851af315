// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "counters.hpp"
#include "view.hpp"

namespace mahia {

// While set (MAHIA_SYNC=1), every slot waits for its device after each call and names itself in what went wrong there.
inline constinit std::atomic<bool> waiting_after_calls{false};

// The part of a slot that does not depend on its signature.
class KernelBase {
 public:
  const char* name() const { return name_; }
  bool has(DeviceType type) const { return registered_[static_cast<size_t>(type)] != 0; }
  int64_t calls() const { return calls_.load(std::memory_order_relaxed); }

 protected:
  friend struct Registered;
  using AnyFunction = void (*)();
  constexpr explicit KernelBase(const char* name) : name_(name) {}
  void add(DeviceType type, AnyFunction function);
  [[noreturn]] void throw_missing(DeviceType type) const;
  static void wait_for(Device device);
  [[noreturn]] void throw_named(const DeviceError& error) const;
  [[noreturn]] void throw_mixed_devices(std::span<const ConstView* const> operands) const;

  template <class T>
  static constexpr bool is_view = std::is_base_of_v<ConstView, std::remove_cvref_t<T>>;
  template <class T>
  static constexpr bool is_views = std::is_same_v<std::remove_cvref_t<T>, std::span<const ConstView>> ||
                                   std::is_same_v<std::remove_cvref_t<T>, std::span<const View>>;

  // Looks at one argument: the device of its views, and whether one of another device was seen before.
  template <class T>
  static void note_device(const T& arg, Device& device, bool& seen, bool& mixed) {
    if constexpr (is_view<T>) {
      if (!arg.defined()) return;
      mixed = mixed || (seen && !(arg.device() == device));
      device = arg.device();
      seen = true;
    } else if constexpr (is_views<T>) {
      for (const auto& view : arg) note_device(view, device, seen, mixed);
    }
  }

  const char* name_;
  AnyFunction functions_[device_type_count] = {};  // null: none, or registered twice
  uint8_t registered_[device_type_count] = {};     // how often
  mutable std::atomic<int64_t> calls_{0};
};

// Every slot that some backend has registered a function for.
std::vector<const KernelBase*> all_kernels();

template <class Signature>
class Kernel;

// A named function per device type. Ops declare slots `inline constinit` in their header and call them; backends fill
// them with Registered objects. The device is that of the operands, which must all agree; the call is counted.
// Throws MissingKernel where the device has no function, DeviceError for operands on different devices.
template <class... Args>
class Kernel<void(Args...)> : public KernelBase {
 public:
  using Function = void (*)(Args...);
  using CostFunction = Cost (*)(const Args&...);
  constexpr explicit Kernel(const char* name, CostFunction cost = nullptr) : KernelBase(name), cost_(cost) {}

  void operator()(const Args&... args) const {
    Device device;
    bool seen = false, mixed = false;
    (note_device(args, device, seen, mixed), ...);
    if (mixed) [[unlikely]]
      report_mixed(args...);
    const AnyFunction function = functions_[static_cast<size_t>(device.type)];
    if (function == nullptr) [[unlikely]]
      throw_missing(device.type);
    calls_.fetch_add(1, std::memory_order_relaxed);
    if (counting_costs.load(std::memory_order_relaxed)) [[unlikely]] {
      if (cost_ != nullptr) add_cost(cost_(args...));
    }
    if (waiting_after_calls.load(std::memory_order_relaxed)) [[unlikely]]
      return call_and_wait(reinterpret_cast<Function>(function), device, args...);
    reinterpret_cast<Function>(function)(args...);
  }

 private:
  friend struct Registered;

  __attribute__((noinline, cold)) void call_and_wait(Function function, Device device, const Args&... args) const {
    try {
      function(args...);
      wait_for(device);
    } catch (const DeviceError& error) {  // in the starting of a kernel, or in one
      throw_named(error);
    }
  }

  [[noreturn]] __attribute__((noinline, cold)) void report_mixed(const Args&... args) const {
    std::vector<const ConstView*> operands;
    const auto collect = [&]<class T>(const T& arg) {
      if constexpr (is_view<T>) operands.push_back(&arg);
      if constexpr (is_views<T>) {
        for (const auto& view : arg) operands.push_back(&view);
      }
    };
    (collect(args), ...);
    throw_mixed_devices(operands);
  }

  CostFunction cost_;
};

// One per slot at the end of a backend's file; the compiler checks the signature.
struct Registered {
  template <class... Args>
  Registered(DeviceType type, Kernel<void(Args...)>& slot, std::type_identity_t<void (*)(Args...)> function) {
    slot.add(type, reinterpret_cast<KernelBase::AnyFunction>(function));
  }
};

}  // namespace mahia
