// SPDX-License-Identifier: Apache-2.0
#include "autograd/record.hpp"

#include "core/copy.hpp"

namespace mahia {

Saved::Saved(const Tensor& x)
    : storage_(x.storage()),
      shape_(x.shape()),
      strides_(x.strides()),
      offset_(x.offset()),
      version_(x.version()),
      dtype_(x.dtype()) {}

Tensor Saved::operator*() const {
  if (!defined()) return {};
  Tensor x(storage_, shape_, strides_, offset_, dtype_);
  check<ValueError>(storage_->version() == version_, autograd::current_op(), ": its saved input ", x,
                    " was changed before backward");
  return x;
}

Tensor without_gradient(const char* op, Tensor y, Operands inputs) {
  if (check_finite_enabled()) autograd::check_finite(op, y, inputs);
  if (!grad_enabled()) return y;
  int i = 0;
  for (const Operand& input : inputs) {
    check<ValueError>(!input.tensor->defined() || !input.tensor->requires_grad(), op, ": has no backward, but input ",
                      i, " requires a gradient: ", *input.tensor, "; pass detach() or work under NoGrad");
    ++i;
  }
  return y;
}

namespace autograd {
namespace {

bool wants_gradient(const Tensor& x) { return x.defined() && x.requires_grad(); }

}  // namespace

bool wants_record(Operands inputs) {
  if (!grad_enabled()) return false;
  for (const Operand& input : inputs) {
    if (wants_gradient(*input.tensor)) return true;
  }
  return false;
}

bool wants_record(const Tensors& inputs) {
  if (!grad_enabled()) return false;
  for (const Tensor& input : inputs) {
    if (wants_gradient(input)) return true;
  }
  return false;
}

void connect_input(Node& node, size_t index, const Tensor& input) {
  if (wants_gradient(input)) node.inputs[index] = input.meta();
}

void connect(const std::shared_ptr<Node>& node, const Tensor& output, int index) {
  if (!is_floating_point(output.dtype())) return;
  auto meta = std::make_shared<Meta>();
  meta->requires_grad = true;
  meta->output = index;
  meta->node = node;
  meta->shape = output.shape();
  meta->dtype = output.dtype();
  meta->device = output.device();
  output.set_meta(std::move(meta));
}

void check_finite(const char* op, const Tensor& output, Operands inputs) {
  if (!output.defined() || !is_floating_point(output.dtype()) || output.numel() == 0) return;
  const int64_t bad = count_nonfinite(output);
  if (bad == 0) return;
  std::string operands;
  for (const Operand& input : inputs) {
    operands += operands.empty() ? "; inputs: " : ", ";
    describe(operands, *input.tensor);
  }
  fail<ValueError>(op, ": produced ", bad, " infinite or NaN values: output ", output, operands);
}

}  // namespace autograd

bool Tensor::meta_requires_grad() const { return body_->meta->requires_grad; }

bool Tensor::is_leaf() const { return !body_->meta || !body_->meta->node; }

Tensor& Tensor::set_requires_grad(bool value) {
  check<ValueError>(is_leaf(), "set_requires_grad: only leaves change, this is an output of `",
                    is_leaf() ? "" : body_->meta->node->name, "`: ", *this);
  check<DTypeError>(!value || is_floating_point(dtype()), "set_requires_grad: needs a floating tensor, got ", *this);
  if (!body_->meta && !value) return *this;
  if (!body_->meta) body_->meta = std::make_shared<Meta>();
  body_->meta->shape = shape();
  body_->meta->dtype = dtype();
  body_->meta->device = device();
  body_->meta->requires_grad = value;
  return *this;
}

Tensor Tensor::grad() const { return body_->meta ? body_->meta->grad : Tensor(); }

void Tensor::set_grad(Tensor grad) const {
  check<ValueError>(body_->meta && is_leaf(), "set_grad: needs a leaf that requires a gradient: ", *this);
  check<ShapeError>(!grad.defined() || grad.shape() == shape(), "set_grad: gradient ", grad, " for ", *this);
  body_->meta->grad = std::move(grad);
}

}  // namespace mahia
