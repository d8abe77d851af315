// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../core/graph.hpp"
#include "../core/random.hpp"
#include "../nn/routing_trace.hpp"
#include "layer_record.hpp"
#include "trainer.hpp"

namespace mahia::train {

// One optimizer step: forward and backward of each micro-batch, clipping, update.
//
// On a CPU every number is looked at before the weights change. On a GPU nothing waits: a loss or gradient that is not
// finite sets the device's fault word, from then on the optimizer changes nothing, and read() throws. There the whole
// step is captured once per shape of the batch and replayed, if `capture` is set.
class TrainStep {
 public:
  // Means over the micro-batches; aux is the Switch loss, 0 where there is none.
  struct Values {
    double loss = 0, aux = 0, grad_norm = 0;
  };
  // More of it, for a log line.
  struct Details {
    std::array<std::optional<double>, nn::aux_loss_names.size()> losses;        // mean over the layers
    std::array<std::optional<double>, nn::aux_loss_names.size()> coefficients;  // likewise, as the step used them
    std::vector<LayerRecord> layers;
  };

  // The loss and the optimizer must outlive this. Of the options: max_grad_norm, balance_rate and capture.
  TrainStep(const Trainer::Loss& loss, Optimizer& optimizer, const TrainerOptions& options, Device device);
  ~TrainStep();  // waits for the batches that a GPU may still be reading
  TrainStep(const TrainStep&) = delete;
  TrainStep& operator=(const TrainStep&) = delete;
  // `state` is that of the step. Pinned batches are kept until read(). Throws ValueError for a loss or gradient norm
  // that is not finite, on a CPU at once.
  void run(const std::vector<Batch>& batches, const StepState& state);
  // What the routers chose in the step that was run last, all micro-batches in turn. Only after record_routing().
  const nn::RouterChoices& choices() const { return current_->choices; }
  void record_routing() { records_routing_ = true; }
  // Lets the next steps' routers choose so: an element for each micro-batch. Steps are not captured then.
  void replay_routing(std::vector<nn::RouterChoices> choices);
  // Of the step that was run last. Waits for a GPU; throws what its kernels found wrong since the last time.
  Values read();
  Details details() const;  // waits too
  // Runs forwards with every op's result checked. Throws ValueError naming the first op that gives infinity or NaN.
  void find_first_op(const std::vector<Batch>& batches) const;

 private:
  // What a step of one batch shape works on and leaves behind: a graph needs them to stay where they are.
  struct Record {
    std::vector<Batch> inputs;
    std::unique_ptr<StepGraph> graph;
    size_t places = 0;                                                   // of the tensors that the graph works on
    Tensor loss, aux, grad_norm;                                         // []; aux may be undefined
    std::array<Tensor, nn::aux_loss_names.size()> losses, coefficients;  // of the wanted losses: [] or (L), and used
    Tensors counts, kept;                                                // i64 (E) per layer, of all micro-batches
    nn::RouterChoices choices;
    std::vector<nn::MoeStats> last;  // of the last micro-batch
    std::function<void(const Tensors& counts, double rate)> balance;
  };

  void work(Record& record, const StepState& state);
  void forward_and_backward(Record& record, const Batch& batch, const StepState& state);
  // Adds the wanted auxiliary losses, weighted, to the loss and keeps their values.
  Tensor total(Record& record, const LossTerms& terms, const StepState& state, double share) const;
  void count(Record& record, const LossTerms& terms) const;
  // Routers and closed loops learn how the step's pairs went.
  void observe(const Record& record, const StepState& state) const;
  void check_terms(const LossTerms& terms, const Batch& batch, RandomCounts counts) const;
  [[noreturn]] void explain(const Batch& batch, RandomCounts counts, const std::string& what) const;

  const Trainer::Loss& loss_;
  Optimizer& optimizer_;
  double max_grad_norm_, balance_rate_;
  Device device_;
  bool capture_;
  // Forgets the records of other shapes when there are too many; says so once when one of those had to come back.
  void make_room_for(const std::string& shapes);

  bool records_routing_ = false;
  std::vector<nn::RouterChoices> replayed_;  // for each micro-batch, or empty
  std::map<std::string, Record> records_;    // by the shapes of the batches
  std::vector<std::string> forgotten_;       // shapes whose records were dropped the last time
  bool has_warned_ = false;
  Record* current_ = nullptr;
  std::vector<Batch> in_flight_;  // which a GPU may still be reading
};

}  // namespace mahia::train
