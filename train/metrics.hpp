// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mahia::train {

// What one logged training step was like. `step` counts optimizer steps done, this one included.
struct StepRecord {
  int64_t step = 0;
  double loss = 0;  // natural logarithm, mean over the step's targets
  double lr = 0, aux_coefficient = 0, aux_loss = 0, grad_norm = 0;
  double tokens_per_second = 0;
  std::vector<std::vector<double>> expert_load = {};  // [layer][expert], shares that sum to 1; empty without experts
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
