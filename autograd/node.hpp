// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "../core/tensor.hpp"

namespace mahia {

namespace autograd {
class Node;
}

// A tensor's place in the graph: a leaf, or output number `output` of `node`. Tensor -> Meta -> Node -> input Metas:
// shared downwards only, so no cycle can form.
struct Meta {
  bool requires_grad = false;
  int output = 0;
  std::shared_ptr<autograd::Node> node;  // null for a leaf
  Shape shape;
  DType dtype = DType::f32;
  Device device;
  Tensor grad;  // leaves only; owns its memory
};

// What a gradient closure sees.
class GradContext {
 public:
  explicit GradContext(const autograd::Node& node) : node_(node) {}
  // Whether output k received a gradient.
  bool has(int k) const;
  // The gradient of output k, contiguous; throws ValueError when none arrived.
  Tensor grad(int k = 0) const;
  // The same with whatever strides it has, for ops that only change the view.
  const Tensor& strided_grad(int k = 0) const;
  // Whether input i wants a gradient.
  bool needs(int i) const;

 private:
  const autograd::Node& node_;
};

namespace autograd {

// A gradient on its way; `owned` when the engine made the buffer itself and may add into it.
struct Arrival {
  Tensor grad;
  bool owned = false;
};

// One recorded op. A younger node has the higher sequence number, so a consumer always comes before its producers.
class Node {
 public:
  Node(const char* name, size_t inputs, size_t outputs);
  virtual ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  virtual Tensors run(GradContext& context) = 0;  // gradients of the inputs; undefined where not asked for
  virtual void release() = 0;                     // destroys the closure and what it saved

  const char* name;
  uint64_t sequence;
  std::vector<std::shared_ptr<Meta>> inputs;  // null where no gradient is wanted
  std::vector<Arrival> arrivals;              // one per output
  bool queued = false;
  bool done = false;
};

// The name of the op whose closure runs on this thread, for messages.
const char* current_op();
void set_current_op(const char* name);

}  // namespace autograd
}  // namespace mahia
