// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace mahia::train {

struct StepValue {
  double step;
  double value;
};

// A horizontal line to compare with, such as another program's result on the same data.
struct Reference {
  std::string name;
  double value;
};

// The loss of each logged step (thin), its running mean, and held-out points, all in `unit`, against the step.
struct LossChart {
  std::string title;
  std::string unit = "bits per byte";
  std::vector<StepValue> train;
  std::vector<StepValue> held_out;
  std::vector<Reference> references;
};
std::string loss_svg(const LossChart& chart);

// Several curves over one axis, y from 0 up to `y_high` (0: as high as the curves go), each with its name.
struct CurveChart {
  std::string title, x_title, y_title;
  double y_high = 1;
  bool log_y = false;  // decades; values of 0 stand at the bottom
  std::vector<std::pair<std::string, std::vector<StepValue>>> curves = {};
  std::vector<Reference> references = {};
};
std::string curves_svg(const CurveChart& chart);

// The share of (token, choice) pairs that each expert of each layer received, against the step.
struct LoadChart {
  std::string title;
  std::vector<double> steps;
  std::vector<std::vector<std::vector<double>>> share;  // [layer][logged step][expert], rows sum to 1
};
// One heat map per layer, experts downwards, steps to the right; white is the fair share 1/E.
std::string load_svg(const LoadChart& chart);

}  // namespace mahia::train
