// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "trainer.hpp"

namespace mahia::train {

// Tells a person how a run goes, on standard error: one line that renews itself on a terminal, else a plain line every
// ten seconds. Evaluations always get a line of their own.
class ProgressLine {
 public:
  explicit ProgressLine(std::string unit = "byte");  // what a token is
  ~ProgressLine();                                   // ends the line
  void show(const Progress& p);

 private:
  void print(const std::string& text, bool keep);

  std::string unit_;
  bool terminal_;
  bool open_ = false;
  double last_shown_ = -1e9;
  int64_t first_step_ = -1;
  double first_seconds_ = 0;
  double tokens_per_second_ = 0;
};

}  // namespace mahia::train
