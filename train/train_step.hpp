// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../core/graph.hpp"
#include "../core/random.hpp"
#include "trainer.hpp"

namespace mahia::train {

// One optimizer step: forward and backward of each micro-batch, clipping, update.
//
// On a CPU every number is looked at before the weights change. On a GPU nothing waits: a loss or gradient that is not
// finite sets the device's fault word, from then on the optimizer changes nothing, and read() throws. There the whole
// step is captured once per shape of the batch and replayed, if `capture` is set.
class TrainStep {
 public:
  // Means over the micro-batches.
  struct Values {
    double loss = 0, aux = 0, grad_norm = 0;
  };

  TrainStep(const Trainer::Loss& loss, Optimizer& optimizer, double max_grad_norm, Device device, bool capture);
  ~TrainStep();  // waits for the batches that a GPU may still be reading
  TrainStep(const TrainStep&) = delete;
  TrainStep& operator=(const TrainStep&) = delete;
  // `state` is that of the step. Pinned batches are kept until read(). Throws ValueError for a loss or gradient norm
  // that is not finite, on a CPU at once.
  void run(const std::vector<Batch>& batches, const StepState& state);
  // Of the step that was run last. Waits for a GPU; throws what its kernels found wrong since the last time.
  Values read();
  // The experts' load of the last micro-batch, [layer][expert]; empty when the model has none.
  std::vector<std::vector<double>> load() const;
  // Runs forwards with every op's result checked. Throws ValueError naming the first op that gives infinity or NaN.
  void find_first_op(const std::vector<Batch>& batches) const;

 private:
  // What a step of one batch shape works on and leaves behind: a graph needs them to stay where they are.
  struct Record {
    std::vector<Batch> inputs;
    std::unique_ptr<StepGraph> graph;
    size_t places = 0;            // of the tensors that the graph works on
    Tensor loss, aux, grad_norm;  // []; aux may be undefined
    LossTerms last;
  };

  void work(Record& record, const StepState& state);
  void forward_and_backward(Record& record, const Batch& batch, const StepState& state);
  void check_terms(const LossTerms& terms, const Batch& batch, RandomCounts counts) const;
  [[noreturn]] void explain(const Batch& batch, RandomCounts counts, const std::string& what) const;

  const Trainer::Loss& loss_;
  Optimizer& optimizer_;
  double max_grad_norm_;
  Device device_;
  bool capture_;
  // Forgets the records of other shapes when there are too many; says so once when one of those had to come back.
  void make_room_for(const std::string& shapes);

  std::map<std::string, Record> records_;  // by the shapes of the batches
  std::vector<std::string> forgotten_;     // shapes whose records were dropped the last time
  bool has_warned_ = false;
  Record* current_ = nullptr;
  std::vector<Batch> in_flight_;  // which a GPU may still be reading
};

}  // namespace mahia::train
