// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mahia::train {

// How a layer of experts worked in one logged step.
struct LayerRecord {
  std::vector<int64_t> pairs = {};  // per expert, before any drop
  double max_violation = 0;         // MaxVio: max / mean - 1
  double variation = 0;             // coefficient of variation
  double entropy = 1;               // of the shares, over ln E: 1 when even
  int64_t dead_experts = 0;         // without a pair in the last ten log lines, this one included
  double mean_top1 = 0;             // mean over the tokens of the largest probability
  double near_ties = 0;             // share of tokens whose k-th and next probability differ by less than 0.01
  // Where experts have a capacity or are rounded to tiles, of the last micro-batch: the share of pairs that no expert
  // serves, that of slots that are taken, that of pairs that went to another expert, and the rounds that took at most.
  std::optional<double> drop_rate = {}, capacity_use = {}, rerouted = {};
  std::optional<int64_t> longest_hop = {};
  // When they are measured: the norm of the gradient at the router's weight, and the norm of the weighted auxiliary
  // losses' share of it over that of the task's.
  std::optional<double> router_grad_norm = {}, aux_to_task = {};
};

// An auxiliary loss in one logged step: means over the layers.
struct AuxRecord {
  std::string name;
  double loss = 0, coefficient = 0;     // unweighted; as the step used it
  std::optional<double> measured = {};  // closed loops: the smoothed imbalance after the step
};

// What one logged training step was like. `step` counts optimizer steps done, this one included.
struct StepRecord {
  int64_t step = 0;
  double loss = 0;  // natural logarithm, mean over the step's targets
  double lr = 0, aux_coefficient = 0, aux_loss = 0, grad_norm = 0;
  double tokens_per_second = 0;
  std::vector<std::vector<double>> expert_load = {};  // [layer][expert], shares that sum to 1; empty without experts
  std::vector<LayerRecord> layers = {};               // empty without experts
  std::vector<AuxRecord> aux = {};                    // those that are weighted
};

struct HeldOutRecord {
  int64_t step = 0;
  double loss = 0, bits_per_byte = 0;  // per target; bits = loss / ln 2
  int64_t targets = 0;
};

struct Metrics {
  std::vector<StepRecord> steps;
  std::vector<HeldOutRecord> held_out;
};
// Reads a file of MetricsLog. Throws IoError naming file and line.
Metrics read_metrics(const std::string& path);

// Writes metrics as JSON lines: {"step": 10, "loss": ...} and {"step": 10, "held_out": {"loss": ...}}.
class MetricsLog {
 public:
  // Goes on behind the lines of steps up to `last_step` and cuts off what comes later, so that a resumed run repeats no
  // step; 0 starts anew. A missing file is begun.
  MetricsLog(const std::string& path, int64_t last_step);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;

  void write(const StepRecord& record);
  void write(const HeldOutRecord& record);
  void flush();  // to the disk

 private:
  void write_line(const std::string& line);

  std::string path_;
  int file_ = -1;
};

}  // namespace mahia::train
