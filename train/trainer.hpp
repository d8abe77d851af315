// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../nn/sparse_moe.hpp"
#include "checkpoint.hpp"
#include "data/batch.hpp"
#include "metrics.hpp"

namespace mahia::train {

// What a model makes of one batch: the loss, [], and what its layers of experts say, if it has any.
struct LossTerms {
  Tensor loss = {};
  Tensor aux = {};                         // [] or undefined: the mean over the layers of their Switch losses
  std::vector<nn::AuxLosses> losses = {};  // per layer: those that the schedules want, at least
  std::vector<nn::MoeStats> stats = {};    // per layer; all have as many experts
  // Loss-free balancing, for models that want it: the step's pairs per expert of each layer, and the rate.
  std::function<void(const Tensors& counts, double rate)> balance = {};
};
// From a loss alone, or from a struct as HyenaMoeLM returns it.
inline LossTerms loss_terms(const Tensor& loss) { return {.loss = loss}; }
template <class Output>
LossTerms loss_terms(const Output& output) {
  return {.loss = output.loss, .aux = output.aux, .losses = output.losses, .stats = output.stats};
}
// From a model with loss(tokens, targets); balanced if it has a select_bias.
template <class Model>
LossTerms loss_terms(Model& model, const Batch& batch) {
  LossTerms terms = loss_terms(model.loss(batch.tokens, batch.targets));
  if constexpr (requires { model.has_select_bias(); }) {
    if (model.has_select_bias())
      terms.balance = [&model](const Tensors& counts, double rate) { model.update_select_bias(counts, rate); };
  }
  return terms;
}

// Shown to the program after each step; `record` is set when the step was logged, `held_out` when it was evaluated.
struct Progress {
  int64_t step = 0, steps = 0;  // done, planned
  double loss = 0;              // of this step; on a GPU that of the last step whose values were read
  double seconds = 0;           // since run() began
  const StepRecord* record = nullptr;
  const HeldOutRecord* held_out = nullptr;
};

struct TrainerOptions {
  int64_t steps = 1000;        // optimizer steps in all, those before a resume included
  double max_minutes = 0;      // ends this process's share earlier; 0: never. Steps depend on their number alone, so a
                               // run that was cut in two by it equals one that was not
  int64_t micro_batches = 1;   // batches whose gradients are averaged into one step
  double max_grad_norm = 1;    // 0: no clipping
  double balance_rate = 1e-3;  // of loss-free balancing, in models that have a select_bias
  Schedules schedules = Schedules();  // g++ 12 warns falsely about {}
  std::string out = {};               // folder for metrics.jsonl and checkpoints/; empty: nothing is written
  bool resume = false;                // go on from the latest checkpoint in `out`, if there is one
  bool capture = true;                // on a GPU, record the step once as a graph and replay it
  bool router_gradients = false;      // measure them for each log line: costs two steps more
  int64_t log_every = 10;             // steps; 0 here and below: never
  std::vector<Batch> held_out = {};
  int64_t evaluate_every = 0;  // steps; the last step is always evaluated
  bool evaluate_at_start = false;
  int64_t checkpoint_every = 0;  // steps; the last step is always saved
  double checkpoint_minutes = 0;
  int64_t keep_checkpoints = 3;
  Metadata notes = {};              // stored with each checkpoint
  std::string record_routing = {};  // folder that gets a file per step with what the routers chose; waits each step
  std::string replay_routing = {};  // folder of such files: the routers choose what stands there
  std::function<void(const Progress&)> on_step = {};
  std::function<bool()> is_enough = {};  // asked after on_step: true ends the run as finished
};

enum class StopReason { finished, out_of_time, interrupted };

struct TrainingResult {
  StopReason reason = StopReason::finished;
  int signal = 0;    // that interrupted it; programs exit with 128 + signal
  int64_t step = 0;  // optimizer steps done
  double loss = 0;   // of the last step
  std::optional<HeldOutRecord> held_out = {};
};

// The training loop. For each step: batches, forward, backward, clipping, update; now and then a log line, an
// evaluation, a checkpoint. SIGINT and SIGTERM let the step finish, write a checkpoint and end run(); the second one
// ends the process.
class Trainer {
 public:
  using Loss = std::function<LossTerms(const Batch&)>;

  // A model with loss(tokens, targets) that returns what loss_terms() takes. Model and optimizer must outlive this.
  template <class Model>
  Trainer(Model& model, Optimizer& optimizer, std::shared_ptr<const BatchSource> data, TrainerOptions options = {})
      : Trainer(
            model, [&model](const Batch& b) { return loss_terms(model, b); }, optimizer, std::move(data),
            std::move(options)) {}
  // Any model, with its loss as a function. Throws ValueError for options that make no sense.
  Trainer(nn::Module& model, Loss loss, Optimizer& optimizer, std::shared_ptr<const BatchSource> data,
          TrainerOptions options = {});

  // Trains. Throws ValueError when a loss or gradient is not finite, naming the step and the first op that made it so;
  // weights and checkpoints are then those before that step. Throws IoError when a file cannot be written.
  TrainingResult run();
  // The mean loss over `held_out`, without gradients, in eval mode. Changes nothing, random numbers included.
  HeldOutRecord evaluate() const;

 private:
  class Run;  // one call of run()

  nn::Module& model_;
  Loss loss_;
  Optimizer& optimizer_;
  std::shared_ptr<const BatchSource> data_;
  TrainerOptions options_;
  Device device_;
};

}  // namespace mahia::train
