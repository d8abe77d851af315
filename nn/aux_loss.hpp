// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "../core/tensor.hpp"

namespace mahia::nn {

// What can be asked of a router besides the task. In brackets: the value at perfect balance.
enum class AuxLoss : uint8_t {
  balance,     // switch_loss [1]
  sequence,    // sequence_loss [1]
  importance,  // importance_loss [0]
  z_loss,      // router_z_loss
  entropy,     // entropy_loss
  variance,    // variance_loss [0]
};
// As they are called in configurations, in the order of the enumerators.
inline constexpr std::array<const char*, 6> aux_loss_names = {"switch", "sequence", "importance",
                                                              "z_loss", "entropy",  "variance"};

inline constexpr std::array<AuxLoss, 6> every_aux_loss = {AuxLoss::balance, AuxLoss::sequence, AuxLoss::importance,
                                                          AuxLoss::z_loss,  AuxLoss::entropy,  AuxLoss::variance};

// Which losses are wanted.
class AuxLossSet {
 public:
  constexpr AuxLossSet(std::initializer_list<AuxLoss> kinds = {}) {
    for (const AuxLoss kind : kinds) insert(kind);
  }
  constexpr void insert(AuxLoss kind) { wanted_[static_cast<size_t>(kind)] = true; }
  constexpr bool contains(AuxLoss kind) const { return wanted_[static_cast<size_t>(kind)]; }

 private:
  std::array<bool, aux_loss_names.size()> wanted_{};
};

// One [] per loss; undefined where it was not asked for.
class AuxLosses {
 public:
  Tensor& operator[](AuxLoss kind) { return values_[static_cast<size_t>(kind)]; }
  const Tensor& operator[](AuxLoss kind) const { return values_[static_cast<size_t>(kind)]; }

 private:
  std::array<Tensor, aux_loss_names.size()> values_;
};

// What a layer's router did with B sequences of T tokens, N = B T.
struct RoutedTokens {
  Tensor logits;         // (N, E)
  Tensor probabilities;  // (N, E), softmax(logits)
  Tensor indices;        // (N, k) i64, chosen before any drop
  Tensor counts;         // (E) i64, pairs per expert before any drop, padding not counted
  int64_t sequences = 1;
  Tensor valid = {};  // bool (N): false for padding; undefined when there is none
};

AuxLosses aux_losses(AuxLossSet wanted, const RoutedTokens& tokens);
// The mean over the layers, so that no layer's imbalance hides another's; undefined when a layer lacks it or there is
// none.
Tensor layer_mean(const std::vector<AuxLosses>& layers, AuxLoss kind);

// The losses. All are [] in the dtype of their operand, 0 without a valid token, and see rows only where `valid` (bool,
// one per row; undefined: everywhere) holds. Counts carry no gradient. All throw ShapeError for operands that disagree.

// E sum_e f_e P_e (Fedus et al. 2022, equation 4): f_e the share of pairs routed to e, before any drop, P_e the mean
// probability. 1 at perfect balance; the gradient goes through P alone. counts i64 (E), probabilities (N, E).
Tensor switch_loss(const Tensor& counts, const Tensor& probabilities, const Tensor& valid = {});
// The mean of switch_loss over the sequences that have a valid token (DeepSeek-AI 2024, equation 17). counts i64
// (B, E), probabilities (B, T, E), valid (B, T).
Tensor sequence_loss(const Tensor& counts, const Tensor& probabilities, const Tensor& valid = {});
// The squared coefficient of variation, Var(I) / mean(I)^2 with the population variance, of the importance
// I_e = sum_t p_te (Shazeer et al. 2017, equation 7). probabilities (N, E).
Tensor importance_loss(const Tensor& probabilities, const Tensor& valid = {});
// mean_t logsumexp(z_t)^2 (Zoph et al. 2022, equation 5). logits (N, E).
Tensor router_z_loss(const Tensor& logits, const Tensor& valid = {});
// mean_t H(p_t) - H(P) in nats, P = mean_t p_t: each token sure, all together even. In [-ln E, 0]. logits (N, E).
Tensor entropy_loss(const Tensor& logits, const Tensor& valid = {});
// The mean over the sequences that have a valid token of sum_e (q_e - 1/E)^2, q the sequence's mean probability: E
// times the population variance of q over sequences and experts. In [0, 1 - 1/E]. probabilities (B, T, E), valid
// (B, T).
Tensor variance_loss(const Tensor& probabilities, const Tensor& valid = {});

// Pairs per sequence and expert, i64 (B, E), of indices i64 (B, T, k) where valid (B, T) holds.
Tensor sequence_counts(const Tensor& indices, int64_t num_experts, const Tensor& valid = {});

}  // namespace mahia::nn
