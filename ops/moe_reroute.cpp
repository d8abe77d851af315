// SPDX-License-Identifier: Apache-2.0
#include "ops/moe_reroute.hpp"

#include <limits>

#include "core/factory.hpp"
#include "ops/shape.hpp"

namespace mahia {

MoeRerouted moe_reroute(const Tensor& indices, const Tensor& kept, const Tensor& scores, int64_t capacity,
                        const Tensor& service) {
  const bool placed = !service.defined() || service.dtype() == DType::i64;
  check<DTypeError>(indices.dtype() == DType::i64 && kept.dtype() == DType::boolean && placed &&
                        (scores.dtype() == DType::f32 || scores.dtype() == DType::f64),
                    "moe_reroute: needs i64 indices, bool kept, f32 or f64 scores and i64 service: indices ", indices,
                    ", kept ", kept, ", scores ", scores, ", service ", service);
  check<ShapeError>(indices.rank() == 2 && kept.shape() == indices.shape() && scores.rank() == 2 &&
                        scores.size(0) == indices.size(0) && scores.size(1) >= 1 &&
                        (!service.defined() || service.shape() == Shape{indices.numel()}),
                    "moe_reroute: indices (N, k), kept (N, k), scores (N, E) and service (N k) disagree: indices ",
                    indices, ", kept ", kept, ", scores ", scores, ", service ", service);
  check<ValueError>(indices.numel() <= std::numeric_limits<int32_t>::max(), "moe_reroute: ", indices.numel(),
                    " pairs exceed 2^31: ", indices);
  const MoeRerouted y{empty_like(indices), empty_like(indices)};
  if (indices.numel() == 0) return y;
  const Tensor order = service.defined() ? contiguous(service.detach()) : service;
  kernels::moe_reroute(contiguous(indices.detach()), contiguous(kept), contiguous(scores.detach()), order, capacity,
                       y.experts.output_view(), y.hops.output_view());
  return y;
}

}  // namespace mahia
