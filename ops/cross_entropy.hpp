// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mse_loss.hpp"

namespace mahia {

struct CrossEntropyOptions {
  int64_t ignore_index = -100;  // rows with this target count for nothing
  double label_smoothing = 0;   // the share of the target that is spread evenly over all classes
  Reduction reduction = Reduction::mean;
};

// -log softmax(logits)[target] per row: logits (N, V), targets (N) i64 -> [] or, for `none`, (N); f32 for bf16 logits,
// else their dtype. The mean is over the rows that are not ignored, NaN when all are. Throws DTypeError, ShapeError,
// ValueError for a smoothing outside [0, 1], IndexError naming position and value of a target outside [0, V).
Tensor cross_entropy(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options = {});

// cross_entropy(linear(x, weight), targets) for mean and sum, x (N, D), weight (V, D). The logits exist for some rows
// at a time; the gradients of x and weight are made while they do, so that backward only scales them.
Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& targets,
                            const CrossEntropyOptions& options = {});

namespace kernels {
// factor (one element) = what a row's loss counts: 1, or 1 / the number of rows not ignored for the mean. Checks
// targets.
inline constinit Kernel<void(ConstView targets, const CrossEntropyOptions& options, int64_t classes, View factor)>
    cross_entropy_factor{"cross_entropy_factor"};
// logits (N, V) contiguous, losses (N), stats (N, 2) = largest logit of the row, sum of exp(logit - largest).
inline constinit Kernel<void(ConstView logits, ConstView targets, const CrossEntropyOptions& options, View losses,
                             View stats)>
    cross_entropy{"cross_entropy"};
// y (one element) = factor * sum of losses.
inline constinit Kernel<void(ConstView losses, ConstView factor, View y)> cross_entropy_total{"cross_entropy_total"};
// dy is absent (1), one element or (N).
inline constinit Kernel<void(ConstView logits, ConstView targets, ConstView stats, ConstView factor, ConstView dy,
                             const CrossEntropyOptions& options, View dlogits)>
    cross_entropy_grad{"cross_entropy_grad"};
}  // namespace kernels

}  // namespace mahia
