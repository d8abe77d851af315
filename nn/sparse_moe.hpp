// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>

#include "aux_loss.hpp"
#include "experts.hpp"
#include "placement.hpp"

namespace mahia::nn {

struct MoeConfig {
  int64_t width = 64;       // D
  int64_t hidden = 256;     // H, of each expert
  int64_t num_experts = 8;  // E
  int64_t top_k = 2;        // k experts per token
  RouterKind router = RouterKind::pre_softmax;
  ExpertKind expert = ExpertKind::gelu;
  std::optional<bool> renormalize = {};                     // see RouterConfig
  bool bias = false;                                        // biases in the experts
  AuxLossSet losses = {AuxLoss::balance, AuxLoss::z_loss};  // which auxiliary losses to compute
  RouterOptions routing = {};                               // selection bias, groups, jitter, noise
  CapacityConfig capacity = {};                             // slots per expert; without a limit by default
  bool causal = true;                                       // refuses routers whose choices depend on later tokens
  // So many experts more serve every token, with weight 1 (DeepSeek-AI 2024): one network of shared_experts * hidden.
  int64_t shared_experts = 0;
  // Builds other experts than those that `hidden`, `expert` and `bias` describe, under the name `experts`.
  std::function<std::shared_ptr<ExpertStack>()> make_experts = {};
};

// How evenly the tokens went: detached tensors on the model's device, and numbers that are computed when somebody asks.
struct MoeStats {
  Tensor counts;         // i64 (E): pairs per expert before any drop, n; padding not counted
  Tensor probabilities;  // (N, E): the router's softmax
  int64_t top_k = 1;
  Tensor kept = {};                    // i64 (E): pairs per expert that it serves
  int64_t capacity = 0;                // slots per expert; 0: without a limit
  Overflow overflow = Overflow::drop;  // what becomes of pairs that find none
  PairFates fates = {};
  Tensor valid = {};  // bool (N), false for padding; undefined: all are valid

  // All wait for the device.
  PairTally tally() const;                         // where the pairs went
  std::vector<double> load() const;                // f_e = n_e / sum of n; even when there was no token
  double max_violation() const;                    // MaxVio: max n / mean n - 1
  double coefficient_of_variation() const;         // of n
  double entropy() const;                          // H(f) / ln E: 1 when even
  double drop_rate() const;                        // share of the pairs that no expert serves
  double capacity_use() const;                     // share of the slots that are taken; 0 without a limit
  int64_t tokens() const;                          // without padding, as in the next two
  double mean_top1() const;                        // mean over the tokens of the largest probability
  double near_tie_share(double gap = 0.01) const;  // of tokens whose k-th and next probability differ by less than gap
};

struct MoeOutput {
  Tensor y;          // x's shape
  AuxLosses losses;  // those that MoeConfig asks for
  MoeStats stats;
};

// A token-level sparse mixture of experts (Shazeer et al. 2017): each token goes to its k chosen experts, and y_t = sum
// of g_te expert_e(x_t). Without a capacity a token's result does not depend on the batch it stands in. With the
// overflow policy `shared` there is one more expert, `overflow`; shared experts are called `shared`.
class SparseMoETopK : public Module {
 public:
  explicit SparseMoETopK(const MoeConfig& c);
  // (.., T, D) -> (.., T, D); x (N, D) is one sequence.
  // mask: bool (.., T), false for padding, which goes to no expert, counts for nothing and gets y = 0. ids: i64 (..,
  // T), what a hash router chooses by. Throws ShapeError, ValueError.
  MoeOutput operator()(const Tensor& x, const Tensor& mask = {}, const Tensor& ids = {}) const;
  // One step of loss-free balancing: see Router.
  void update_select_bias(const Tensor& counts, double rate = 1e-3) const { router_.update_select_bias(counts, rate); }
  std::string summary() const override;

 private:
  // What the pairs without an expert add to y (N, D), weighted by `overflow` (N, 1).
  Tensor standing_in(const Tensor& tokens, const Placement& placement) const;

  MoeConfig config_;
  Router& router_;
  ExpertStack& experts_;
  Experts* shared_ = nullptr;
  Experts* overflow_ = nullptr;  // serves what overflows, if it is to be shared
};

}  // namespace mahia::nn
