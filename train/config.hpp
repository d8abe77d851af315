// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string>
#include <vector>

#include "config_model.hpp"
#include "config_schedule.hpp"
#include "data/vocabulary.hpp"
#include "fields.hpp"
#include "optimizer.hpp"

namespace mahia::train {

// A part of a run with sequences of its own length.
struct SequenceStage {
  int64_t steps, sequence_length, batch_size;
};

// Everything `mahia train` needs to know about a run, with its defaults. One TOML section per group.
struct RunConfig : ModelSettings {
  RunConfig();
  double filter_lr_scale = 1;

  std::string text = "data/kjv.txt";
  std::string format = "text";  // bytes, or "fasta": nucleotides
  bool both_strands = false;    // read half of the training windows along the other strand
  double held_out = 0.1;

  int64_t steps = 1000, batch_size = 8, micro_batches = 1, sequence_length = 512;
  int64_t log_every = 10, evaluate_every = 100, evaluate_batches = 16, checkpoint_every = 200, keep_checkpoints = 3;
  // Stages before those `sequence_length` and `batch_size`, which come last: three lists of one length.
  std::vector<double> stage_steps = {}, stage_lengths = {}, stage_batch_sizes = {};
  std::vector<SequenceStage> warmup_stages = {};  // what the lists say
  double max_grad_norm = 1, max_minutes = 0;
  bool capture = true;  // on a GPU, the step as a graph
  int64_t seed = 0;
  std::string precision = "f32";

  std::string optimizer = "adamw";
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01, momentum = 0;

  ScheduleSettings lr_settings = {.kind = "cosine"};
  std::array<ScheduleSettings, nn::aux_loss_names.size()> aux_settings;  // train.aux.switch and the others
  Schedules schedules = Schedules();                                     // what the settings say
  double balance_rate = 1e-3;
  bool router_gradients = false;

  std::string plot_title = "HyenaMoeLM";
  std::vector<double> reference_values = {};  // horizontal lines in loss.svg, in bits per byte
  std::string reference_names = "";           // their names, separated by commas
};

// The table of the settings of `config`: all, or those that mean something (not the coefficients of losses that are
// switched off, nor the closed loop of a schedule that is a function of the step).
Fields fields_of(RunConfig& config, bool all = true);
// Turns the words (schedules, expert, router) into what they mean and checks the values together. Throws ValueError.
void finish(RunConfig& config);
// What the tokens of the run's text stand for.
const Vocabulary& vocabulary_of(const RunConfig& config);
// The configuration as TOML and back.
std::string to_toml(RunConfig config);
RunConfig read_config(const std::string& path, const std::vector<std::string>& assignments = {});
RunConfig parse_config(const std::string& toml, const std::string& origin);

}  // namespace mahia::train
