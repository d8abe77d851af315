// SPDX-License-Identifier: Apache-2.0
#include "ops/matmul.hpp"

#include <atomic>

#include "autograd/record.hpp"
#include "core/factory.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"

namespace mahia {
namespace {

std::atomic<bool> tf32{false}, invariant{false};

Shape leading(const Shape& shape) {
  Shape lead = shape;
  lead.erase(lead.rank() - 1);
  lead.erase(lead.rank() - 1);
  return lead;
}

Shape with_matrix(Shape lead, int64_t rows, int64_t columns) {
  lead.push_back(rows);
  lead.push_back(columns);
  return lead;
}

// The value alone, for operands of at least two axes.
Tensor multiply(const Tensor& a, const Tensor& b) {
  const NoGrad no_grad;
  const int64_t m = a.size(-2), k = a.size(-1), n = b.size(-1);
  const Shape lead = broadcast_shapes("matmul", leading(a.shape()), leading(b.shape()));
  const Tensor c = empty(with_matrix(lead, m, n), a.dtype(), a.device());
  if (c.numel() == 0) return c;
  kernels::matmul(expand(a, with_matrix(lead, m, k)), expand(b, with_matrix(lead, k, n)), {}, c.output_view());
  return c;
}

}  // namespace

void allow_tf32(bool on) { tf32 = on; }
bool tf32_allowed() { return tf32; }
void use_batch_invariant(bool on) { invariant = on; }
bool batch_invariant() { return invariant; }

Tensor matmul(const Tensor& a, const Tensor& b) {
  check<DTypeError>(is_floating_point(a.dtype()) && a.dtype() == b.dtype(),
                    "matmul: needs two tensors of one floating dtype: a ", a, ", b ", b);
  check<ShapeError>(a.rank() > 0 && b.rank() > 0, "matmul: needs at least one axis: a ", a, ", b ", b);
  if (a.rank() == 1) return squeeze(matmul(unsqueeze(a, 0), b), b.rank() == 1 ? 0 : -2);
  if (b.rank() == 1) return squeeze(matmul(a, unsqueeze(b, 1)), -1);
  check<ShapeError>(a.size(-1) == b.size(-2), "matmul: a (.., m, k) and b (.., k, n) disagree on `k`: a ", a, ", b ",
                    b);
  if (a.rank() > 2 && b.rank() == 2) {  // all leading axes are rows
    const Shape lead = leading(a.shape());
    const Tensor rows = reshape(a, {numel(lead) * a.size(-2), a.size(-1)});
    return reshape(matmul(rows, b), with_matrix(lead, a.size(-2), b.size(-1)));
  }
  return record("matmul", multiply(a, b), {a, b}, [a = save(a), b = save(b)](GradContext& ctx) {
    const Tensor dy = ctx.strided_grad();
    Tensors grads(2);
    if (ctx.needs(0)) grads[0] = sum_to(multiply(dy, transpose(*b, -1, -2)), (*a).shape());
    if (ctx.needs(1)) grads[1] = sum_to(multiply(transpose(*a, -1, -2), dy), (*b).shape());
    return grads;
  });
}

}  // namespace mahia
