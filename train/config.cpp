// SPDX-License-Identifier: Apache-2.0
#include "train/config.hpp"

#include <algorithm>
#include <array>

#include "core/error.hpp"

namespace mahia::train {
namespace {

constexpr int64_t many = int64_t{1} << 40;

std::string aux_section(size_t i) { return std::string("train.aux.") + nn::aux_loss_names[i]; }

// The losses that the schedules weight are those that the model computes.
void set_schedules(RunConfig& c) {
  c.schedules.lr = schedule_of(c.lr_settings, "train.lr", c.steps);
  for (size_t i = 0; i < c.aux_settings.size(); ++i) {
    Schedule& s = c.schedules.aux[static_cast<nn::AuxLoss>(i)];
    ScheduleSettings& settings = c.aux_settings[i];
    const auto layers = static_cast<size_t>(c.model.layers);
    std::vector<double>& factors = settings.schedule.layers;
    if (settings.schedule.feedback.per_layer && factors.empty()) factors.assign(layers, 1);
    check<ValueError>(factors.empty() || factors.size() == layers, aux_section(i), ".layers has ", factors.size(),
                      " factors, the model has ", layers, " layers");
    s = schedule_of(settings, aux_section(i), c.steps);
  }
  c.model.losses = wanted_losses(c.schedules.aux);
  for (size_t i = 0; i < c.aux_settings.size(); ++i) {
    const bool is_on = c.schedules.aux[static_cast<nn::AuxLoss>(i)].is_on();
    check<ValueError>(!is_on || c.router != "hash", aux_section(i),
                      " weights a loss of the router, and a hash router learns nothing; set its peak to 0");
  }
  check<ValueError>(c.model.z_loss == 0 || !c.schedules.aux.z_loss.is_on(),
                    "model.z_loss and train.aux.z_loss both weight the z-loss; set one of them");
}

void check_data(const RunConfig& c) {
  const int64_t needed = vocabulary_of(c).size;
  check<ValueError>(c.model.vocab >= needed, "model.vocab is ", c.model.vocab, ", data.format `", c.format, "` has ",
                    needed, " tokens");
  check<ValueError>(!c.both_strands || c.format == "fasta", "data.both_strands is for data.format `fasta`");
}

std::vector<SequenceStage> stages_of(const RunConfig& c) {
  const size_t count = c.stage_steps.size();
  check<ValueError>(c.stage_lengths.size() == count && c.stage_batch_sizes.size() == count,
                    "train.sequence_warmup: stage_steps, lengths and batch_sizes must be as many as each other: ",
                    std::ssize(c.stage_steps), ", ", std::ssize(c.stage_lengths), ", ",
                    std::ssize(c.stage_batch_sizes));
  std::vector<SequenceStage> stages;
  for (size_t i = 0; i < count; ++i) {
    const SequenceStage stage{static_cast<int64_t>(c.stage_steps[i]), static_cast<int64_t>(c.stage_lengths[i]),
                              static_cast<int64_t>(c.stage_batch_sizes[i])};
    check<ValueError>(stage.sequence_length <= c.sequence_length, "train.sequence_warmup: length ",
                      stage.sequence_length, " exceeds train.sequence_length ", c.sequence_length);
    stages.push_back(stage);
  }
  return stages;
}

}  // namespace

RunConfig::RunConfig() {
  const Schedules defaults;
  for (size_t i = 0; i < aux_settings.size(); ++i) aux_settings[i].schedule = defaults.aux[static_cast<nn::AuxLoss>(i)];
}

Fields fields_of(RunConfig& c, bool all) {
  Fields f;
  add_model(f, c);
  f.text("data.text", c.text);
  f.choice("data.format", c.format, {"text", "fasta"});
  f.flag("data.both_strands", c.both_strands);
  f.number("data.held_out", c.held_out, 0, 0.9);
  f.integer("train.steps", c.steps, 1, many);
  f.integer("train.batch_size", c.batch_size, 1, 1 << 20);
  f.integer("train.micro_batches", c.micro_batches, 1, 1 << 20);
  f.integer("train.sequence_length", c.sequence_length, 1, int64_t{1} << 30);
  f.flag("train.capture", c.capture);
  f.number("train.max_grad_norm", c.max_grad_norm, 0, 1e6);
  f.flag("train.router_gradients", c.router_gradients);
  f.number("train.balance_rate", c.balance_rate, 0, 1e3);
  f.number("train.max_minutes", c.max_minutes, 0, 1e7);
  f.integer("train.log_every", c.log_every, 0, many);
  f.integer("train.evaluate_every", c.evaluate_every, 0, many);
  f.integer("train.evaluate_batches", c.evaluate_batches, -1, many);
  f.integer("train.checkpoint_every", c.checkpoint_every, 0, many);
  f.integer("train.keep_checkpoints", c.keep_checkpoints, 1, 1 << 20);
  f.integer("train.seed", c.seed, 0, (int64_t{1} << 53) - 1);
  f.choice("train.precision", c.precision, {"f32", "bf16"});
  f.numbers("train.sequence_warmup.stage_steps", c.stage_steps, 1, static_cast<double>(many));
  f.numbers("train.sequence_warmup.lengths", c.stage_lengths, 1, 1 << 30);
  f.numbers("train.sequence_warmup.batch_sizes", c.stage_batch_sizes, 1, 1 << 20);
  add_schedule(f, "train.lr", c.lr_settings, false, all);
  for (size_t i = 0; i < c.aux_settings.size(); ++i) {
    ScheduleSettings& aux = c.aux_settings[i];
    const bool is_on = aux.kind != "constant" || aux.schedule.peak != 0;
    if (all || is_on) add_schedule(f, aux_section(i), aux, true, all);
  }
  f.choice("optimizer.name", c.optimizer, {"adamw", "sgd"});
  f.number("optimizer.beta1", c.beta1, 0, 0.9999999);
  f.number("optimizer.beta2", c.beta2, 0, 0.9999999);
  f.number("optimizer.eps", c.eps, 0, 1);
  f.number("optimizer.weight_decay", c.weight_decay, 0, 1e3);
  f.number("optimizer.momentum", c.momentum, 0, 0.9999999);
  f.number("optimizer.filter_lr_scale", c.filter_lr_scale, 0, 1e3);
  f.text("plot.title", c.plot_title);
  f.numbers("plot.reference_values", c.reference_values, 0, 1e6);
  f.text("plot.reference_names", c.reference_names);
  return f;
}

const Vocabulary& vocabulary_of(const RunConfig& c) {
  return c.format == "fasta" ? dna_vocabulary() : byte_vocabulary();
}

void finish(RunConfig& c) {
  set_schedules(c);
  check_data(c);
  c.warmup_stages = stages_of(c);
  c.model.l_max = c.sequence_length;
  finish_model(c);
}

std::string to_toml(RunConfig config) { return fields_of(config, false).to_toml(); }

RunConfig read_config(const std::string& path, const std::vector<std::string>& assignments) {
  RunConfig config;
  Fields fields = fields_of(config);
  if (!path.empty()) fields.read_file(path);
  for (const std::string& assignment : assignments) fields.set(assignment);
  finish(config);
  return config;
}

RunConfig parse_config(const std::string& toml, const std::string& origin) {
  RunConfig config;
  fields_of(config).read(toml, origin);
  finish(config);
  return config;
}

}  // namespace mahia::train
