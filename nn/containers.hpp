// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "module.hpp"

namespace mahia::nn {

// Modules applied one after the other; children are named by position.
//   Sequential net; net.append<Linear>(8, 16); net.append<Tanh>(); Tensor y = net(x);
class Sequential : public Module {
 public:
  Sequential() = default;
  template <class M, class... Args>
  M& append(Args&&... args) {
    M& module = add<M>(std::to_string(steps_.size()), std::forward<Args>(args)...);
    steps_.push_back([&module](const Tensor& x) { return module(x); });
    return module;
  }
  // The same child once more at the next position.
  template <class M>
  M& append_shared(M& module) {
    share(std::to_string(steps_.size()), module);
    steps_.push_back([&module](const Tensor& x) { return module(x); });
    return module;
  }
  Tensor operator()(const Tensor& x) const { return first(x, size()); }
  // The result of the first `count` modules.
  Tensor first(Tensor x, size_t count) const {
    for (size_t i = 0; i < count; ++i) x = steps_[i](x);
    return x;
  }
  size_t size() const { return steps_.size(); }

 private:
  std::vector<std::function<Tensor(const Tensor&)>> steps_;
};

// A list of modules of one type, named by position.
template <class M>
class ModuleList : public Module {
 public:
  ModuleList() = default;
  template <class... Args>
  M& append(Args&&... args) {
    M& module = add<M>(std::to_string(items_.size()), std::forward<Args>(args)...);
    items_.push_back(&module);
    return module;
  }
  size_t size() const { return items_.size(); }
  M& operator[](size_t i) const { return *items_[i]; }

 private:
  std::vector<M*> items_;
};

}  // namespace mahia::nn
