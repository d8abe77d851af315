// SPDX-License-Identifier: Apache-2.0
#include "autograd/node.hpp"

#include <atomic>
#include <utility>

#include "core/copy.hpp"

namespace mahia {

bool GradContext::has(int k) const { return node_.arrivals[static_cast<size_t>(k)].grad.defined(); }

const Tensor& GradContext::strided_grad(int k) const {
  check<ValueError>(has(k), node_.name, ": output ", k, " received no gradient");
  return node_.arrivals[static_cast<size_t>(k)].grad;
}

Tensor GradContext::grad(int k) const {
  const Tensor& dy = strided_grad(k);
  return dy.is_contiguous() ? dy : clone(dy);
}

bool GradContext::needs(int i) const { return node_.inputs[static_cast<size_t>(i)] != nullptr; }

namespace autograd {
namespace {

std::atomic<uint64_t> next_sequence{1};
thread_local const char* op_in_backward = "backward";

// Nodes waiting to be freed. A chain of a million nodes is freed in a loop, not by a million nested destructors.
struct Graveyard {
  std::vector<std::shared_ptr<Node>> nodes;
  bool draining = false;
};
thread_local Graveyard graveyard;

}  // namespace

Node::Node(const char* op, size_t input_count, size_t output_count)
    : name(op),
      sequence(next_sequence.fetch_add(1, std::memory_order_relaxed)),
      inputs(input_count),
      arrivals(output_count) {}

Node::~Node() {
  for (std::shared_ptr<Meta>& input : inputs) {
    // The last owner of the Meta hands its node to the loop below instead of destroying it here.
    if (input && input.use_count() == 1 && input->node) graveyard.nodes.push_back(std::move(input->node));
  }
  inputs.clear();
  if (graveyard.draining) return;
  graveyard.draining = true;
  while (!graveyard.nodes.empty()) {
    const std::shared_ptr<Node> next = std::move(graveyard.nodes.back());
    graveyard.nodes.pop_back();
  }
  graveyard.draining = false;
}

const char* current_op() { return op_in_backward; }
void set_current_op(const char* name) { op_in_backward = name; }

}  // namespace autograd
}  // namespace mahia
