// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer.hpp"

#include <algorithm>
#include <map>
#include <unordered_map>

#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"
#include "core/random.hpp"

namespace mahia::train {

bool matches(const std::string& pattern, const std::string& name) {
  // Greedy with one point of return: enough for `*` as the only wildcard.
  size_t p = 0, n = 0, star = std::string::npos, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  return std::all_of(pattern.begin() + static_cast<std::ptrdiff_t>(p), pattern.end(), [](char c) { return c == '*'; });
}

std::vector<ParameterRule> default_rules(double filter_lr_scale) {
  return {{"*filter_fn.*", filter_lr_scale, 0.0}, {"*norm*", {}, 0.0}, {"*bias", {}, 0.0}, {"*.b_*", {}, 0.0}};
}

Optimizer::Optimizer(const nn::Module& model, double weight_decay, const std::vector<ParameterRule>& rules,
                     int moments) {
  std::map<std::pair<double, double>, size_t> known;
  for (const auto& [name, parameter] : model.named_parameters()) {
    double lr_scale = 1, decay = weight_decay;
    for (const ParameterRule& rule : rules) {
      if (!matches(rule.pattern, name)) continue;
      lr_scale = rule.lr_scale.value_or(lr_scale);
      decay = rule.weight_decay.value_or(decay);
      break;
    }
    const auto [group, added] = known.try_emplace({lr_scale, decay}, groups_.size());
    if (added) groups_.push_back({lr_scale, decay, {}});
    groups_[group->second].slots.push_back(slots_.size());
    const DType kind = parameter.dtype() == DType::f64 ? DType::f64 : DType::f32;
    const Tensor master = parameter.dtype() == kind ? parameter : copy_to(parameter, parameter.device(), kind);
    const auto moment = [&](int k) { return moments > k ? zeros_like(master) : Tensor(); };
    slots_.push_back({name, parameter, master, moment(0), moment(1)});
  }
}

void Optimizer::zero_grad() const {
  for (const Slot& slot : slots_) slot.parameter.set_grad({});
}

Tensors Optimizer::gradients() const {
  Tensors grads;
  for (const Slot& slot : slots_) {
    if (const Tensor dx = slot.parameter.grad(); dx.defined()) grads.push_back(dx);
  }
  return grads;
}

Tensor Optimizer::clip_grad_norm(double max_norm) {
  const Tensor norm = grad_norm(gradients());
  clip_ = clip_coefficient(norm, max_norm);
  return norm;
}

void Optimizer::step(const StepState& s) {
  const NoGrad no_grad;
  const StepScalars now{.lr = s.lr, .step = s.step, .clip = clip_};
  for (const Group& group : groups_) {
    OptimizerTensors t;
    for (const size_t i : group.slots) {
      const Slot& slot = slots_[i];
      const Tensor dx = slot.parameter.grad();
      if (!dx.defined()) continue;
      t.masters.push_back(slot.master);
      t.copies.push_back(slot.parameter.dtype() == slot.master.dtype() ? Tensor() : slot.parameter);
      t.grads.push_back(dx);
      if (slot.first.defined()) t.first.push_back(slot.first);
      if (slot.second.defined()) t.second.push_back(slot.second);
    }
    update(t, now, group, steps_done_ > 0);
  }
  clip_ = {};
  count_step();
}

size_t Optimizer::places() const {
  size_t mixed = 0;
  for (const Slot& slot : slots_) {
    for (const Tensor* t : {&slot.parameter, &slot.master, &slot.first, &slot.second}) {
      if (t->defined()) mixed = mixed * 0x9E3779B97F4A7C15u + reinterpret_cast<uintptr_t>(t->storage()->data());
    }
  }
  return mixed;
}

void Optimizer::count_step() {
  ++steps_done_;
  set_random_step(random_step() + 1);
}

void Optimizer::step(double lr) {
  StepState s({.lr = {.peak = lr}}, slots_.empty() ? cpu_device : slots_[0].parameter.device());
  step(s.advance(steps_done_));
}

nn::NamedTensors Optimizer::state_dict() const {
  nn::NamedTensors state;
  for (const Slot& slot : slots_) {
    if (slot.first.defined()) state.emplace_back("first." + slot.name, slot.first);
    if (slot.second.defined()) state.emplace_back("second." + slot.name, slot.second);
    if (!slot.master.is_same(slot.parameter)) state.emplace_back("master." + slot.name, slot.master);
  }
  return state;
}

void Optimizer::load_state_dict(const nn::NamedTensors& state) {
  const nn::NamedTensors mine = state_dict();
  const std::unordered_map<std::string, Tensor> given(state.begin(), state.end());
  std::string problems;
  for (const auto& [name, tensor] : mine) {
    const auto found = given.find(name);
    if (found == given.end()) {
      problems += message("\n  missing: ", name, ": ", tensor);
    } else if (found->second.shape() != tensor.shape() || found->second.dtype() != tensor.dtype()) {
      problems += message("\n  ", name, ": the optimizer has ", tensor, ", the file has ", found->second);
    }
  }
  if (given.size() > mine.size()) problems += message("\n  ", given.size() - mine.size(), " unexpected names");
  check<ValueError>(problems.empty(), "optimizer: nothing was loaded:", problems);
  for (const auto& [name, tensor] : mine) overwrite(given.at(name), tensor);
}

AdamW::AdamW(const nn::Module& model, const AdamWOptions& options, const std::vector<ParameterRule>& rules)
    : Optimizer(model, options.weight_decay, rules, 2), options_(options) {
  check<ValueError>(options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1, "AdamW: betas ",
                    options.beta1, ", ", options.beta2, " must be in [0, 1)");
  check<ValueError>(options.eps >= 0 && options.weight_decay >= 0, "AdamW: eps ", options.eps, " and weight_decay ",
                    options.weight_decay, " must be >= 0");
}

void AdamW::update(const OptimizerTensors& t, const StepScalars& s, const Group& group, bool) {
  AdamWOptions options = options_;
  options.lr_scale = options_.lr_scale * group.lr_scale;
  options.weight_decay = group.weight_decay;
  adamw_step(t, s, options);
}

Sgd::Sgd(const nn::Module& model, const SgdOptions& options, const std::vector<ParameterRule>& rules)
    : Optimizer(model, options.weight_decay, rules, options.momentum != 0 ? 1 : 0), options_(options) {}

void Sgd::update(const OptimizerTensors& t, const StepScalars& s, const Group& group, bool started) {
  SgdOptions options = options_;
  options.lr_scale = options_.lr_scale * group.lr_scale;
  options.weight_decay = group.weight_decay;
  sgd_step(t, s, options, started);
}

}  // namespace mahia::train
