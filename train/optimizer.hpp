// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "../nn/module.hpp"
#include "../ops/optim_step.hpp"
#include "step_state.hpp"

namespace mahia::train {

// Settings for the parameters whose name matches `pattern`, in which `*` stands for any characters. A parameter takes
// the first rule that matches; what the rule leaves open is the optimizer's own value.
struct ParameterRule {
  std::string pattern;
  std::optional<double> lr_scale = {};  // factor on the step's learning rate
  std::optional<double> weight_decay = {};
};

// Rules that suit every model of this library: no weight decay on biases, norms, embeddings of position and the
// implicit filter, whose own learning rate is lr * filter_lr_scale (Poli et al. 2023).
std::vector<ParameterRule> default_rules(double filter_lr_scale = 1);

bool matches(const std::string& pattern, const std::string& name);

// What AdamW and Sgd share: groups of parameters, gradients, clipping, state. Masters are f32 (f64 for f64 parameters);
// a bf16 parameter is the rounded copy of its master. The model must outlive the optimizer.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  void zero_grad() const;  // drops all gradients
  // Updates every parameter that has a gradient with the step's scalars, then advances the random step. Parameters
  // without a gradient stay as they are, as in PyTorch.
  void step(const StepState& s);
  // What step() counts on the host, for a step that a graph replayed.
  void count_step();
  // A number that changes when a parameter, master or moment comes to lie elsewhere.
  size_t places() const;
  // For programs that keep a fixed learning rate: the step number counts itself.
  void step(double lr);
  // The gradients' 2-norm (f64 []); the next step() multiplies all gradients by min(1, max_norm / (norm + 1e-6)).
  Tensor clip_grad_norm(double max_norm);

  // Moments, masters of bf16 parameters: "first.NAME", "second.NAME", "master.NAME".
  nn::NamedTensors state_dict() const;
  // Throws ValueError with all problems before anything changes.
  void load_state_dict(const nn::NamedTensors& state);
  int64_t steps_done() const { return steps_done_; }
  void set_steps_done(int64_t steps) { steps_done_ = steps; }

 protected:
  struct Slot {
    std::string name;
    Tensor parameter, master, first, second;
  };
  struct Group {
    double lr_scale, weight_decay;
    std::vector<size_t> slots;
  };
  Optimizer(const nn::Module& model, double weight_decay, const std::vector<ParameterRule>& rules, int moments);
  virtual void update(const OptimizerTensors& tensors, const StepScalars& scalars, const Group& group,
                      bool started) = 0;

 private:
  Tensors gradients() const;

  std::vector<Slot> slots_;
  std::vector<Group> groups_;
  Tensor clip_;
  int64_t steps_done_ = 0;
};

// clip_grad_norm(optimizer, 1.0) reads as in PyTorch.
inline Tensor clip_grad_norm(Optimizer& optimizer, double max_norm) { return optimizer.clip_grad_norm(max_norm); }

// torch.optim.AdamW's formula and defaults.
class AdamW : public Optimizer {
 public:
  explicit AdamW(const nn::Module& model, const AdamWOptions& options = {},
                 const std::vector<ParameterRule>& rules = default_rules());

 protected:
  void update(const OptimizerTensors& t, const StepScalars& s, const Group& group, bool started) override;

 private:
  AdamWOptions options_;
};

// torch.optim.SGD's formula and defaults.
class Sgd : public Optimizer {
 public:
  explicit Sgd(const nn::Module& model, const SgdOptions& options = {}, const std::vector<ParameterRule>& rules = {});

 protected:
  void update(const OptimizerTensors& t, const StepScalars& s, const Group& group, bool started) override;

 private:
  SgdOptions options_;
};

}  // namespace mahia::train
