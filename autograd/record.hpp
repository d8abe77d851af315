// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <utility>

#include "grad_mode.hpp"
#include "node.hpp"

namespace mahia {

// A value kept for backward: no history, and the storage's version at the time. Reading it after the tensor was changed
// throws ValueError: `softmax: its saved input f32 [2, 3] cpu:0 was changed before backward`.
class Saved {
 public:
  Saved() = default;
  explicit Saved(const Tensor& x);
  Tensor operator*() const;
  bool defined() const { return storage_ != nullptr; }

 private:
  std::shared_ptr<Storage> storage_;
  Shape shape_, strides_;
  int64_t offset_ = 0;
  uint64_t version_ = 0;
  DType dtype_ = DType::f32;
};

// Keeps x for a closure; keeps nothing when nothing is being recorded or x is undefined.
inline Saved save(const Tensor& x) { return grad_enabled() && x.defined() ? Saved(x) : Saved(); }

// A borrowed operand, so that `{x, weight}` copies no handle. Undefined tensors are allowed.
struct Operand {
  Operand(const Tensor& t) : tensor(&t) {}
  const Tensor* tensor;
};
using Operands = std::initializer_list<Operand>;

namespace autograd {

// Whether this op has to be recorded: recording is on and an operand requires a gradient.
bool wants_record(Operands inputs);
bool wants_record(const Tensors& inputs);

template <class Fn>
class NodeOf final : public Node {
 public:
  NodeOf(const char* op, size_t input_count, size_t output_count, Fn fn)
      : Node(op, input_count, output_count), fn_(std::move(fn)) {}
  Tensors run(GradContext& context) override { return (*fn_)(context); }
  void release() override { fn_.reset(); }

 private:
  std::optional<Fn> fn_;
};

void connect(const std::shared_ptr<Node>& node, const Tensor& output, int index);
void connect_input(Node& node, size_t index, const Tensor& input);
void check_finite(const char* op, const Tensor& output, Operands inputs);

}  // namespace autograd

// Step four of an op: hangs the gradient closure on y and returns y. The closure maps a GradContext to one gradient per
// input, undefined where ctx.needs(i) is false. It captures Saved values, shapes and plain numbers only.
// Nothing happens when recording is off or no input requires a gradient.
template <class Fn>
Tensor record(const char* op, Tensor y, Operands inputs, Fn&& fn) {
  if (check_finite_enabled()) [[unlikely]]
    autograd::check_finite(op, y, inputs);
  if (!autograd::wants_record(inputs)) return y;
  const auto node =
      std::make_shared<autograd::NodeOf<std::remove_cvref_t<Fn>>>(op, inputs.size(), size_t{1}, std::forward<Fn>(fn));
  size_t i = 0;
  for (const Operand& input : inputs) autograd::connect_input(*node, i++, *input.tensor);
  autograd::connect(node, y, 0);
  return y;
}

// The form for a list of inputs and several outputs; outputs without a floating dtype stay outside the graph.
template <class Fn>
Tensors record(const char* op, Tensors outputs, const Tensors& inputs, Fn&& fn) {
  if (check_finite_enabled()) [[unlikely]] {
    for (const Tensor& y : outputs) autograd::check_finite(op, y, {});
  }
  if (!autograd::wants_record(inputs)) return outputs;
  const auto node = std::make_shared<autograd::NodeOf<std::remove_cvref_t<Fn>>>(op, inputs.size(), outputs.size(),
                                                                                std::forward<Fn>(fn));
  for (size_t i = 0; i < inputs.size(); ++i) autograd::connect_input(*node, i, inputs[i]);
  for (size_t k = 0; k < outputs.size(); ++k) autograd::connect(node, outputs[k], static_cast<int>(k));
  return outputs;
}

// For an op with a floating result and no backward: returns y, or throws ValueError at once when an input requires a
// gradient. Integer and boolean results need no gradient and never come here.
Tensor without_gradient(const char* op, Tensor y, Operands inputs);

}  // namespace mahia
