// SPDX-License-Identifier: Apache-2.0
#include "autograd/checkpoint.hpp"

#include "autograd/backward.hpp"
#include "autograd/record.hpp"
#include "core/copy.hpp"
#include "core/random.hpp"

namespace mahia {
namespace {

using Segment = std::function<Tensors(const Tensors&)>;

thread_local bool second_run = false;

// Restores the thread's random counts and the flag, also after an exception.
class Recomputation {
 public:
  explicit Recomputation(const RandomCounts& then) : before_(second_run), now_(random_counts()) {
    second_run = true;
    set_random_counts(then);
  }
  ~Recomputation() {
    second_run = before_;
    set_random_counts(std::move(now_));
  }
  Recomputation(const Recomputation&) = delete;
  Recomputation& operator=(const Recomputation&) = delete;

 private:
  bool before_;
  RandomCounts now_;
};

Tensors differentiate_again(const Segment& fn, const std::vector<Saved>& saved, const RandomCounts& counts,
                            GradContext& ctx) {
  const Recomputation scope(counts);
  Tensors inputs;
  for (size_t i = 0; i < saved.size(); ++i) {
    inputs.push_back(*saved[i]);
    if (ctx.needs(static_cast<int>(i))) inputs.back().set_requires_grad(true);
  }
  Tensors roots, grads;
  {
    const GradMode record_again(true);
    const Tensors outputs = fn(inputs);
    for (size_t k = 0; k < outputs.size(); ++k) {
      if (!ctx.has(static_cast<int>(k)) || !outputs[k].requires_grad()) continue;
      roots.push_back(outputs[k]);
      grads.push_back(ctx.grad(static_cast<int>(k)));
    }
  }
  backward(roots, grads);
  Tensors result;
  for (const Tensor& input : inputs) {
    Tensor dx = input.grad();
    if (dx.defined() && dx.dtype() != input.dtype()) dx = copy_to(dx, dx.device(), input.dtype());
    result.push_back(dx);
  }
  return result;
}

}  // namespace

bool recomputing() { return second_run; }

Tensors checkpoint(Segment fn, const Tensors& inputs) {
  if (!grad_enabled()) return fn(inputs);
  const RandomCounts counts = random_counts();
  Tensors outputs;
  {
    const NoGrad no_grad;
    outputs = fn(inputs);
  }
  // Parameters inside fn may want gradients even if no input does, so the node is always recorded.
  std::vector<Saved> saved;
  for (const Tensor& input : inputs) saved.push_back(save(input));
  const auto closure = [fn = std::move(fn), saved = std::move(saved), counts](GradContext& ctx) {
    return differentiate_again(fn, saved, counts, ctx);
  };
  const auto node = std::make_shared<autograd::NodeOf<std::remove_cvref_t<decltype(closure)>>>(
      "checkpoint", inputs.size(), outputs.size(), closure);
  for (size_t i = 0; i < inputs.size(); ++i) autograd::connect_input(*node, i, inputs[i]);
  for (size_t k = 0; k < outputs.size(); ++k) {
    outputs[k] = outputs[k].detach();  // fn may have returned one of its inputs
    autograd::connect(node, outputs[k], static_cast<int>(k));
  }
  return outputs;
}

Tensor checkpoint(std::function<Tensor(const Tensors&)> fn, const Tensors& inputs) {
  return checkpoint(Segment([fn = std::move(fn)](const Tensors& x) { return Tensors{fn(x)}; }), inputs)[0];
}

}  // namespace mahia
