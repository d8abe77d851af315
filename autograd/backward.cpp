// SPDX-License-Identifier: Apache-2.0
#include "autograd/backward.hpp"

#include <algorithm>

#include "autograd/grad_mode.hpp"
#include "core/copy.hpp"
#include "core/factory.hpp"

namespace mahia {
namespace {

using autograd::Arrival;
using autograd::Node;

// The queue of one backward: the youngest node first, so all consumers of a node run before it.
class Queue {
 public:
  void push(std::shared_ptr<Node> node) {
    node->queued = true;
    heap_.push_back(std::move(node));
    std::push_heap(heap_.begin(), heap_.end(), older);
  }
  std::shared_ptr<Node> pop() {
    std::pop_heap(heap_.begin(), heap_.end(), older);
    std::shared_ptr<Node> node = std::move(heap_.back());
    heap_.pop_back();
    node->queued = false;
    return node;
  }
  bool empty() const { return heap_.empty(); }

  // After an error: nodes must not keep half a backward.
  void abandon() {
    for (const auto& node : heap_) {
      node->queued = false;
      for (Arrival& arrival : node->arrivals) arrival = {};
    }
    heap_.clear();
  }

 private:
  static bool older(const std::shared_ptr<Node>& a, const std::shared_ptr<Node>& b) {
    return a->sequence < b->sequence;
  }
  std::vector<std::shared_ptr<Node>> heap_;
};

// The first arrival is kept by reference, the second makes a new sum; only a buffer made here is added into.
void add(Arrival& slot, Tensor grad) {
  if (!slot.grad.defined()) {
    slot = {std::move(grad), false};
    return;
  }
  if (!slot.owned) slot = {clone(slot.grad), true};
  kernels::add_into(grad, slot.grad.output_view());
}

// A leaf's gradient owns its memory and is at least f32. A buffer that nobody else holds is taken as it is.
void add_to_leaf(Meta& leaf, Tensor grad) {
  if (leaf.grad.defined()) {
    kernels::add_into(grad, leaf.grad.mutable_view());
    return;
  }
  const DType wanted = leaf.dtype == DType::f64 ? DType::f64 : DType::f32;
  const bool take = grad.dtype() == wanted && grad.is_contiguous() && grad.is_unshared();
  if (take) {
    leaf.grad = std::move(grad);
  } else {
    leaf.grad = empty(grad.shape(), wanted, grad.device());
    kernels::copy(grad, leaf.grad.output_view());
  }
}

void deliver(Queue& queue, const std::shared_ptr<Meta>& target, Tensor grad, const char* from) {
  check<ShapeError>(grad.shape() == target->shape, from, ": gradient ", grad, " for an input of shape ", target->shape);
  check<DTypeError>(!target->node || grad.dtype() == target->dtype, from, ": gradient ", grad,
                    " for an input of dtype ", target->dtype);
  if (!target->node) {
    add_to_leaf(*target, std::move(grad));
    return;
  }
  const std::shared_ptr<Node>& node = target->node;
  check<ValueError>(!node->done, "backward: the graph through `", node->name,
                    "` was already used; run the forward again");
  add(node->arrivals[static_cast<size_t>(target->output)], std::move(grad));
  if (!node->queued) queue.push(node);
}

void run(Queue& queue, Node& node) {
  node.done = true;
  GradContext context(node);
  autograd::set_current_op(node.name);
  Tensors grads = node.run(context);
  node.release();
  for (Arrival& arrival : node.arrivals) arrival = {};
  check<ValueError>(grads.size() == node.inputs.size(), node.name, ": its gradient returned ", grads.size(),
                    " tensors for ", node.inputs.size(), " inputs");
  for (size_t i = 0; i < grads.size(); ++i) {
    if (node.inputs[i] && grads[i].defined()) deliver(queue, node.inputs[i], std::move(grads[i]), node.name);
  }
}

}  // namespace

void backward(const Tensor& loss) {
  check<ShapeError>(loss.defined() && loss.numel() == 1, "backward: needs a loss with one element, got ", loss);
  backward({loss}, {ones(loss.shape(), loss.dtype(), loss.device())});
}

void backward(const Tensors& roots, const Tensors& grads) {
  check<ValueError>(roots.size() == grads.size(), "backward: ", roots.size(), " roots, ", grads.size(), " gradients");
  const char* outer = autograd::current_op();
  const NoGrad no_grad;
  Queue queue;
  try {
    for (size_t i = 0; i < roots.size(); ++i) {
      check<ValueError>(roots[i].requires_grad(),
                        "backward: the root depends on nothing that requires a gradient: ", roots[i]);
      deliver(queue, roots[i].meta(), grads[i], "backward");
    }
    while (!queue.empty()) {
      const std::shared_ptr<Node> node = queue.pop();
      run(queue, *node);
    }
  } catch (...) {
    queue.abandon();
    autograd::set_current_op(outer);
    throw;
  }
  autograd::set_current_op(outer);
}

}  // namespace mahia
