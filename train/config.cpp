// SPDX-License-Identifier: Apache-2.0
#include "train/config.hpp"

#include <algorithm>
#include <array>

#include "core/error.hpp"

namespace mahia::train {
namespace {

constexpr int64_t many = int64_t{1} << 40;

using nn::HyenaActivation;
constexpr std::array<std::pair<const char*, HyenaActivation>, 6> activations = {
    {{"none", HyenaActivation::none},
     {"relu", HyenaActivation::relu},
     {"gelu", HyenaActivation::gelu},
     {"silu", HyenaActivation::silu},
     {"tanh", HyenaActivation::tanh},
     {"sigmoid", HyenaActivation::sigmoid}}};
constexpr std::array<std::pair<const char*, ConvAlgorithm>, 4> algorithms = {{{"automatic", ConvAlgorithm::automatic},
                                                                              {"fft", ConvAlgorithm::fft},
                                                                              {"dyadic", ConvAlgorithm::dyadic},
                                                                              {"direct", ConvAlgorithm::direct}}};

template <class Table>
std::vector<std::string> words(const Table& table) {
  std::vector<std::string> names;
  for (const auto& [name, meaning] : table) names.emplace_back(name);
  return names;
}

// What one of the table's words means; Fields has refused all others.
template <class Table>
auto meaning_of(const Table& table, const std::string& word) {
  return std::ranges::find(table, word, &Table::value_type::first)->second;
}

void add_filter(Fields& f, nn::HyenaFilterConfig& c) {
  f.integer("model.filter_embedding", c.embedding, 3, 1025);
  f.integer("model.filter_hidden", c.hidden, 1, 1 << 14);
  f.integer("model.filter_layers", c.inner_layers, 0, 64);
  f.number("model.sine_frequency", c.sine_frequency, 0, 1e4);
  f.flag("model.filter_shared_frequency", c.shared_frequency);
  f.flag("model.filter_train_positions", c.train_positions);
  f.flag("model.filter_window", c.window);
  f.flag("model.filter_train_window", c.train_window);
  f.number("model.filter_shift", c.shift, 0, 1e3);
  f.flag("model.filter_normalized", c.normalized);
  f.flag("model.filter_skip", c.skip);
  f.number("model.filter_dropout", c.dropout, 0, 0.99);
  f.integer("model.filter_extend_to", c.extend_to, 0, int64_t{1} << 30);
}

void add_model(Fields& f, RunConfig& c) {
  nn::models::HyenaMoeLMConfig& m = c.model;
  f.integer("model.vocab", m.vocab, 1, 1 << 24);
  f.integer("model.width", m.width, 1, 1 << 16);
  f.integer("model.layers", m.layers, 0, 1 << 12);
  f.integer("model.order", m.order, 2, 16);
  f.integer("model.num_heads", m.num_heads, 1, 1 << 16);
  f.integer("model.inner_factor", m.inner_factor, 1, 1 << 10);
  f.integer("model.num_blocks", m.num_blocks, 1, 1 << 20);
  f.integer("model.short_filter", m.short_filter, 0, 1024);
  f.flag("model.outer_mixing", m.outer_mixing);
  f.choice("model.activation", c.activation, words(activations));
  f.choice("model.convolution", c.convolution, words(algorithms));
  add_filter(f, m.filter);
  f.integer("model.experts", m.experts, 1, 1 << 14);
  f.integer("model.top_k", m.top_k, 1, 1 << 14);
  f.integer("model.hidden", m.hidden, 1, 1 << 20);
  f.choice("model.expert", c.expert, {"gelu", "swiglu"});
  f.choice("model.router", c.router, {"pre_softmax", "post_softmax"});
  f.number("model.z_loss", m.z_loss, 0, 1e3);
  f.number("model.dropout", m.dropout, 0, 0.99);
  f.flag("model.tie_head", m.tie_head);
}

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
  c.model.expert = c.expert == "swiglu" ? nn::ExpertKind::swiglu : nn::ExpertKind::gelu;
  c.model.router = c.router == "post_softmax" ? nn::RouterKind::post_softmax : nn::RouterKind::pre_softmax;
  c.model.activation = meaning_of(activations, c.activation);
  c.model.algorithm = meaning_of(algorithms, c.convolution);
  check<ValueError>(c.model.width % c.model.num_heads == 0, "model.num_heads is ", c.model.num_heads,
                    ", must divide the ", c.model.width, " of model.width");
  check<ValueError>(c.model.l_max % c.model.num_blocks == 0, "model.num_blocks is ", c.model.num_blocks,
                    ", must divide the ", c.model.l_max, " of train.sequence_length");
  check<ValueError>(c.model.filter.extend_to == 0 || c.model.filter.extend_to >= c.model.l_max,
                    "model.filter_extend_to is ", c.model.filter.extend_to, ", less than the ", c.model.l_max,
                    " of train.sequence_length");
  check<ValueError>(c.model.top_k <= c.model.experts, "model.top_k is ", c.model.top_k, ", more than the ",
                    c.model.experts, " of model.experts");
  check<ValueError>(c.model.filter.embedding % 2 == 1, "model.filter_embedding is ", c.model.filter.embedding,
                    ", must be odd");
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
