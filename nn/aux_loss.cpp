// SPDX-License-Identifier: Apache-2.0
#include "nn/aux_loss.hpp"

#include <algorithm>
#include <limits>

#include "core/factory.hpp"
#include "ops/binary.hpp"
#include "ops/cast.hpp"
#include "ops/compare.hpp"
#include "ops/cumsum.hpp"
#include "ops/moe.hpp"
#include "ops/pointwise.hpp"
#include "ops/reduce.hpp"
#include "ops/shape.hpp"
#include "ops/softmax.hpp"

namespace mahia::nn {
namespace {

constexpr double tiny = 1e-37;  // keeps 0 / 0 and log 0 away; a normal number in f32
constexpr double infinity = std::numeric_limits<double>::infinity();

void check_valid(const char* loss, const Tensor& x, const Tensor& valid, int rows_rank) {
  if (!valid.defined()) return;
  bool fits = valid.dtype() == DType::boolean && valid.rank() == rows_rank;
  for (int i = 0; fits && i < rows_rank; ++i) fits = valid.size(i) == x.size(i);
  check<ShapeError>(fits, loss, ": valid must be a bool for each row of ", x, ", got ", valid);
}

// (.., 1) to stand beside x (.., E), or as it is beside x (..).
Tensor beside(const Tensor& x, const Tensor& per_row) {
  return x.rank() > per_row.rank() ? unsqueeze(per_row, -1) : per_row;
}

// The sum over `axis` of the rows that are valid.
Tensor valid_sum(const Tensor& x, const Tensor& valid, int64_t axis) {
  return sum(valid.defined() ? where(beside(x, valid), x, zeros({}, x.dtype(), x.device())) : x, {axis});
}

// Their mean; 0 when there is none.
Tensor valid_mean(const Tensor& x, const Tensor& valid, int64_t axis) {
  if (!valid.defined()) return mean(x, {axis});
  const Tensor total = valid_sum(x, valid, axis);
  return total / beside(total, clamp(sum(to(valid, x.dtype()), {axis}), 1, infinity));
}

// Whether a sequence has a valid token, bool (B); undefined when all have.
Tensor sequences_with_tokens(const Tensor& valid) {
  return valid.defined() ? gt(sum(to(valid, DType::f32), {1}), 0) : Tensor();
}

}  // namespace

Tensor switch_loss(const Tensor& counts, const Tensor& probabilities, const Tensor& valid) {
  check<ShapeError>(counts.rank() == 1 && probabilities.rank() == 2 && counts.size(0) == probabilities.size(1),
                    "switch_loss: counts (E) and probabilities (N, E) disagree: counts ", counts, ", probabilities ",
                    probabilities);
  check_valid("switch_loss", probabilities, valid, 1);
  const int64_t tokens = probabilities.size(0), experts = probabilities.size(1);
  if (tokens == 0) return sum(probabilities);
  // f_e = n_e / sum of n; the sum is known on the host only as N k, so it is taken on the device.
  const Tensor n = to(counts, probabilities.dtype()), pairs = sum(n);
  const Tensor f = n / (valid.defined() ? clamp(pairs, 1, infinity) : pairs);
  return sum(f * valid_mean(probabilities, valid, 0)) * static_cast<double>(experts);
}

Tensor sequence_loss(const Tensor& counts, const Tensor& probabilities, const Tensor& valid) {
  check<ShapeError>(counts.rank() == 2 && probabilities.rank() == 3 && counts.size(0) == probabilities.size(0) &&
                        counts.size(1) == probabilities.size(2),
                    "sequence_loss: counts (B, E) and probabilities (B, T, E) disagree: counts ", counts,
                    ", probabilities ", probabilities);
  check_valid("sequence_loss", probabilities, valid, 2);
  if (probabilities.numel() == 0) return sum(probabilities);
  const Tensor n = to(counts, probabilities.dtype());
  const Tensor f = n / clamp(sum(n, {1}, true), 1, infinity);               // (B, E)
  const Tensor losses = sum(f * valid_mean(probabilities, valid, 1), {1});  // (B)
  return valid_mean(losses, sequences_with_tokens(valid), 0) * static_cast<double>(counts.size(1));
}

Tensor importance_loss(const Tensor& probabilities, const Tensor& valid) {
  check<ShapeError>(probabilities.rank() == 2, "importance_loss: needs probabilities (N, E), got ", probabilities);
  check_valid("importance_loss", probabilities, valid, 1);
  if (probabilities.numel() == 0) return sum(probabilities);
  const Tensor importance = valid_sum(probabilities, valid, 0), middle = mean(importance);
  return var(importance, {}, 0) / clamp(middle * middle, tiny, infinity);
}

Tensor router_z_loss(const Tensor& logits, const Tensor& valid) {
  check<ShapeError>(logits.rank() == 2, "router_z_loss: needs logits (N, E), got ", logits);
  check_valid("router_z_loss", logits, valid, 1);
  if (logits.size(0) == 0) return sum(logits);
  const Tensor z = logsumexp(logits, {1});
  return valid_mean(z * z, valid, 0);
}

Tensor entropy_loss(const Tensor& logits, const Tensor& valid) {
  check<ShapeError>(logits.rank() == 2, "entropy_loss: needs logits (N, E), got ", logits);
  check_valid("entropy_loss", logits, valid, 1);
  if (logits.numel() == 0) return sum(logits);
  const Tensor log_p = log_softmax(logits), p = exp(log_p);
  const Tensor together = valid_mean(p, valid, 0);  // (E), P
  return sum(together * log(clamp(together, tiny, infinity))) - valid_mean(sum(p * log_p, {1}), valid, 0);
}

Tensor variance_loss(const Tensor& probabilities, const Tensor& valid) {
  check<ShapeError>(probabilities.rank() == 3, "variance_loss: needs probabilities (B, T, E), got ", probabilities);
  check_valid("variance_loss", probabilities, valid, 2);
  if (probabilities.numel() == 0) return sum(probabilities);
  const Tensor off = valid_mean(probabilities, valid, 1) - 1 / static_cast<double>(probabilities.size(2));  // (B, E)
  return valid_mean(sum(off * off, {1}), sequences_with_tokens(valid), 0);
}

Tensor sequence_counts(const Tensor& indices, int64_t num_experts, const Tensor& valid) {
  check<ShapeError>(indices.rank() == 3, "sequence_counts: needs indices (B, T, k), got ", indices);
  check_valid("sequence_counts", indices, valid, 2);
  // Each sequence has experts of its own; padding goes to one more behind them all.
  const int64_t batch = indices.size(0), all = batch * num_experts;
  const Tensor first = cumsum(full({batch}, static_cast<double>(num_experts), DType::i64, indices.device()), 0) -
                       static_cast<double>(num_experts);
  Tensor experts = indices + reshape(first, {batch, 1, 1});
  if (valid.defined())
    experts = where(unsqueeze(valid, -1), experts, full({}, static_cast<double>(all), DType::i64, indices.device()));
  const MoePlan plan = moe_plan(reshape(experts, {indices.numel(), 1}), all + 1);
  return reshape(narrow(plan.counts, 0, 0, all), {batch, num_experts});
}

AuxLosses aux_losses(AuxLossSet wanted, const RoutedTokens& tokens) {
  const Tensor& p = tokens.probabilities;
  const int64_t experts = p.size(1), batch = tokens.sequences, time = batch > 0 ? p.size(0) / batch : 0;
  const auto by_sequence = [&](const Tensor& x) { return reshape(x, {batch, time, x.size(1)}); };
  const Tensor valid = tokens.valid.defined() ? reshape(tokens.valid, {batch, time}) : Tensor();
  const auto compute = [&](AuxLoss kind) {
    switch (kind) {
      case AuxLoss::balance:
        return switch_loss(tokens.counts, p, tokens.valid);
      case AuxLoss::sequence:
        return sequence_loss(sequence_counts(by_sequence(tokens.indices), experts, valid), by_sequence(p), valid);
      case AuxLoss::importance:
        return importance_loss(p, tokens.valid);
      case AuxLoss::z_loss:
        return router_z_loss(tokens.logits, tokens.valid);
      case AuxLoss::entropy:
        return entropy_loss(tokens.logits, tokens.valid);
      default:
        return variance_loss(by_sequence(p), valid);
    }
  };
  AuxLosses losses;
  for (size_t i = 0; i < aux_loss_names.size(); ++i) {
    const auto kind = static_cast<AuxLoss>(i);
    if (wanted.contains(kind)) losses[kind] = compute(kind);
  }
  return losses;
}

Tensor layer_mean(const std::vector<AuxLosses>& layers, AuxLoss kind) {
  const bool whole = std::ranges::all_of(layers, [&](const AuxLosses& l) { return l[kind].defined(); });
  if (layers.empty() || !whole) return {};
  Tensor total = layers[0][kind];
  for (size_t i = 1; i < layers.size(); ++i) total = total + layers[i][kind];
  return total / static_cast<double>(layers.size());
}

}  // namespace mahia::nn
