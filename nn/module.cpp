// SPDX-License-Identifier: Apache-2.0
#include "nn/module.hpp"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <ostream>
#include <typeinfo>
#include <unordered_map>
#include <unordered_set>

#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"

namespace mahia::nn {
namespace {

// The path that the next module built by this thread takes.
thread_local std::string next_path;

std::string joined(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

// Puts other storage under an existing tensor; a gradient of the old kind goes.
void replace(Tensor tensor, const Tensor& value) {
  if (tensor.dtype() == value.dtype() && tensor.device() == value.device()) return;
  tensor.replace_storage(value);
  if (tensor.requires_grad()) tensor.set_requires_grad(true).set_grad({});
}

}  // namespace

Module::Module() : path_(next_path) {}
Module::~Module() = default;

Module::PathScope::PathScope(const Module& parent, const std::string& name) : before_(next_path) {
  next_path = joined(parent.path_, name);
}
Module::PathScope::~PathScope() { next_path = before_; }

std::string Module::type_name() const {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(typeid(*this).name(), nullptr, nullptr, &status), std::free);
  const std::string name = status == 0 ? text.get() : typeid(*this).name();
  const size_t colon = name.rfind("::");
  return colon == std::string::npos ? name : name.substr(colon + 2);
}

void Module::check_new(const std::string& name) const {
  check<ValueError>(!name.empty() && name.find('.') == std::string::npos, "module ", path_, ": bad name `", name, "`");
  const auto taken = [&](const Entry& e) { return e.name == name; };
  const bool used = std::any_of(parameters_.begin(), parameters_.end(), taken) ||
                    std::any_of(buffers_.begin(), buffers_.end(), taken) ||
                    std::any_of(children_.begin(), children_.end(), [&](const auto& c) { return c.first == name; });
  check<ValueError>(!used, "module ", path_, ": the name `", name, "` is already taken");
}

void Module::place(const std::string& name, std::shared_ptr<Module> child) {
  check_new(name);
  children_.emplace_back(name, std::move(child));
}

std::shared_ptr<Module> Module::find_child(const Module& child) const {
  for (const auto& [name, known] : children_) {
    if (known.get() == &child) return known;
  }
  fail<ValueError>("module ", path_, ": share() needs a child that add() has made here");
}

Tensor Module::parameter(const std::string& name, Tensor value) {
  value.set_requires_grad(true);
  return share_parameter(name, value);
}

Tensor Module::share_parameter(const std::string& name, const Tensor& parameter) {
  check_new(name);
  parameters_.push_back({name, parameter});
  return parameter;
}

Tensor Module::buffer(const std::string& name, Tensor value, bool persistent) {
  check_new(name);
  buffers_.push_back({name, value, persistent});
  return value;
}

// Calls fn(full name, entry, is parameter) for the tensors of this module, then of its children, in order.
void Module::visit(const std::string& prefix,
                   const std::function<void(const std::string&, const Entry&, bool)>& fn) const {
  for (const Entry& e : parameters_) fn(joined(prefix, e.name), e, true);
  for (const Entry& e : buffers_) fn(joined(prefix, e.name), e, false);
  for (const auto& [name, child] : children_) child->visit(joined(prefix, name), fn);
}

NamedTensors Module::named_parameters() const {
  NamedTensors out;
  std::unordered_set<const void*> seen;
  visit("", [&](const std::string& name, const Entry& e, bool is_parameter) {
    if (is_parameter && seen.insert(e.tensor.id()).second) out.emplace_back(name, e.tensor);
  });
  return out;
}

Tensors Module::parameters() const {
  Tensors out;
  for (auto& [name, tensor] : named_parameters()) out.push_back(tensor);
  return out;
}

int64_t Module::num_parameters() const {
  int64_t n = 0;
  for (const auto& [name, tensor] : named_parameters()) n += tensor.numel();
  return n;
}

NamedTensors Module::named_buffers() const {
  NamedTensors out;
  visit("", [&](const std::string& name, const Entry& e, bool is_parameter) {
    if (!is_parameter) out.emplace_back(name, e.tensor);
  });
  return out;
}

NamedTensors Module::state_dict() const {
  NamedTensors out;
  visit("", [&](const std::string& name, const Entry& e, bool) {
    if (e.persistent) out.emplace_back(name, e.tensor.detach());
  });
  return out;
}

void Module::load_state_dict(const NamedTensors& state, bool strict) {
  std::unordered_map<std::string, Tensor> given(state.begin(), state.end());
  std::vector<std::pair<Tensor, Tensor>> copies;  // (from, to)
  std::string problems;
  const auto report = [&](const std::string& line) { problems += "\n  " + line; };
  visit("", [&](const std::string& name, const Entry& e, bool) {
    if (!e.persistent) return;
    const auto found = given.find(name);
    if (found == given.end()) {
      if (strict) report(message("missing: ", name, ": ", e.tensor));
      return;
    }
    const Tensor& value = found->second;
    if (!value.defined() || value.shape() != e.tensor.shape() ||
        is_floating_point(value.dtype()) != is_floating_point(e.tensor.dtype())) {
      report(message(name, ": the model has ", e.tensor, ", the file has ", value));
    }
    copies.emplace_back(value, e.tensor);
    given.erase(found);
  });
  if (strict) {
    for (const auto& [name, tensor] : state) {
      if (given.contains(name)) report(message("unexpected: ", name, ": ", tensor));
    }
  }
  check<ValueError>(problems.empty(), "load_state_dict: nothing was loaded:", problems);
  const NoGrad no_grad;
  for (const auto& [from, to] : copies) copy_into(from, to);
}

void Module::train(bool training) {
  training_ = training;
  for (const auto& [name, child] : children_) child->train(training);
}

void Module::to(Device device) {
  visit("", [&](const std::string&, const Entry& e, bool) {
    replace(e.tensor, copy_to(e.tensor, device, e.tensor.dtype()));
  });
}

void Module::to(DType dtype, const std::function<bool(const std::string&)>& keep_f32) {
  check<DTypeError>(is_floating_point(dtype) && dtype != DType::f16, "Module::to: needs f64, f32 or bf16, got ", dtype);
  visit("", [&](const std::string& name, const Entry& e, bool) {
    if (!is_floating_point(e.tensor.dtype())) return;
    const DType wanted = dtype == DType::bf16 && keep_f32 && keep_f32(name) ? DType::f32 : dtype;
    replace(e.tensor, copy_to(e.tensor, e.tensor.device(), wanted));
  });
}

namespace {

void print(std::ostream& out, const std::string& name, const Module& module, int depth) {
  out << std::string(static_cast<size_t>(2 * depth), ' ');
  if (!name.empty()) out << name << ": ";
  out << module.type_name();
  if (const std::string text = module.summary(); !text.empty()) out << '(' << text << ')';
  out << "  " << module.num_parameters() << (module.num_parameters() == 1 ? " parameter" : " parameters") << '\n';
  for (const auto& [parameter, tensor] : module.named_parameters()) {
    if (parameter.find('.') != std::string::npos) continue;
    out << std::string(static_cast<size_t>(2 * depth + 2), ' ') << parameter << ' ' << message(tensor.dtype()) << ' '
        << message(tensor.shape()) << '\n';
  }
  for (const auto& [child_name, child] : module.children()) print(out, child_name, *child, depth + 1);
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Module& module) {
  print(out, "", module, 0);
  return out;
}

}  // namespace mahia::nn
