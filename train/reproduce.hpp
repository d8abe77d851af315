// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "reproduce_workload.hpp"
#include "trainer.hpp"

namespace mahia::train {

struct Evaluation {
  int64_t step = 0;
  Score score = {};
  double training_loss = 0;  // mean of the logged steps since the evaluation before
};

// One seed's run: of the data, the initial weights and the dropout.
struct SeedRun {
  uint64_t seed = 0;
  bool finished = false;
  std::vector<Evaluation> evaluations = {};

  double last() const { return evaluations.back().score.score; }
  double mean_of_last(size_t count) const;  // scores; of all when there are fewer
};

struct Reproduction {
  Recipe recipe = {};
  int64_t parameters = 0;
  std::vector<synthetic::Baseline> baselines = {};  // on the first seed's test examples
  std::vector<SeedRun> runs = {};                   // those that have been evaluated
  StopReason reason = StopReason::finished;
  int signal = 0;
};

struct ReproduceOptions {
  std::string out = {};     // folder for results.json, accuracy.svg and a run's folder per seed
  uint64_t first_seed = 0;  // and those after it
  int64_t seeds = 3;
  bool resume = false;     // go on with the run in `out`, if there is one
  double max_minutes = 0;  // ends this process's share; 0: never
  Device device = cpu_device;
  std::function<void(uint64_t seed, const Progress&)> on_step = {};
  std::function<void(uint64_t seed, const Evaluation&)> on_evaluation = {};
};

// Trains and evaluates a recipe once per seed. results.json and accuracy.svg always show where it stands, and hold
// nothing that depends on the time. Throws ValueError when `out` holds a run and `resume` is not set, or a run of
// another recipe; IoError; and what Trainer throws.
Reproduction reproduce(const Recipe& recipe, const ReproduceOptions& options);

}  // namespace mahia::train
