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

std::vector<std::string> schedule_choices() {
  std::vector<std::string> names;
  for (const std::string_view name : schedule_names()) names.emplace_back(name);
  return names;
}

void add_schedule(Fields& f, const std::string& section, std::string& kind, Schedule& s,
                  std::vector<double>& milestones) {
  f.choice(section + ".schedule", kind, schedule_choices());
  f.number(section + ".peak", s.peak, 0, 1e6);
  f.number(section + ".final", s.final, 0, 1e6);
  f.integer(section + ".steps", s.steps, 0, many);
  f.integer(section + ".warmup", s.warmup, 0, many);
  f.integer(section + ".hold", s.hold, 0, many);
  f.number(section + ".gamma", s.gamma, 0, 1e6);
  f.numbers(section + ".milestones", milestones, 0, static_cast<double>(many));
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

Fields fields_of(RunConfig& c) {
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
  add_schedule(f, "train.lr", c.lr_schedule, c.lr, c.lr_milestones);
  add_schedule(f, "train.aux", c.aux_schedule, c.aux, c.aux_milestones);
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
  const auto schedule = [&](Schedule& s, const std::string& kind, const std::vector<double>& milestones,
                            const char* name) {
    s.kind = schedule_kind(kind);
    if (s.steps == 0) s.steps = c.steps;
    s.milestones.assign(milestones.begin(), milestones.end());
    s.validate(name);
  };
  schedule(c.lr, c.lr_schedule, c.lr_milestones, "train.lr");
  schedule(c.aux, c.aux_schedule, c.aux_milestones, "train.aux");
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

std::string to_toml(RunConfig config) { return fields_of(config).to_toml(); }

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
