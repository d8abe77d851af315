// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "autograd/grad_mode.hpp"
#include "core/parallel.hpp"
#include "core/random.hpp"
#include "core/runtime.hpp"
#include "train/data/text.hpp"
#include "train/file.hpp"
#include "train/main_commands.hpp"
#include "train/progress.hpp"
#include "train/trainer.hpp"

namespace mahia::train {
namespace {

struct Options {
  std::string config, out, record_routing, replay_routing;
  std::vector<std::string> assignments;
  bool resume = false, print_config = false, json = false;
  int64_t seed = -1;
  int threads = 0;
  std::string device;
};

std::unique_ptr<Optimizer> build_optimizer(const RunConfig& c, const nn::Module& model) {
  const std::vector<ParameterRule> rules = default_rules(c.filter_lr_scale);
  if (c.optimizer == "sgd") {
    return std::make_unique<Sgd>(model, SgdOptions{.momentum = c.momentum, .weight_decay = c.weight_decay}, rules);
  }
  return std::make_unique<AdamW>(
      model, AdamWOptions{.beta1 = c.beta1, .beta2 = c.beta2, .eps = c.eps, .weight_decay = c.weight_decay}, rules);
}

TrainerOptions trainer_options(const RunConfig& c, const Options& o, const TokenText& text) {
  TrainerOptions t;
  t.steps = c.steps;
  t.max_minutes = c.max_minutes;
  t.micro_batches = c.micro_batches;
  t.max_grad_norm = c.max_grad_norm;
  t.capture = c.capture;
  t.balance_rate = c.balance_rate;
  t.router_gradients = c.router_gradients;
  t.schedules = c.schedules;
  t.out = o.out;
  t.record_routing = o.record_routing;
  t.replay_routing = o.replay_routing;
  t.resume = o.resume;
  t.log_every = c.log_every;
  t.held_out = held_out_batches(text, c.batch_size, c.sequence_length, c.evaluate_batches);
  t.evaluate_every = c.evaluate_every;
  t.evaluate_at_start = true;
  t.checkpoint_every = c.checkpoint_every;
  t.keep_checkpoints = c.keep_checkpoints;
  t.notes = {{"config", to_toml(c)}};
  return t;
}

// The command line over the environment over the file over the defaults.
RunConfig effective_config(const Options& o, const Environment& environment) {
  std::vector<std::string> assignments = o.assignments;
  if (environment.seed >= 0) assignments.insert(assignments.begin(), message("train.seed=", environment.seed));
  if (o.seed >= 0) assignments.push_back(message("train.seed=", o.seed));
  try {
    return read_config(o.config, assignments);
  } catch (const ValueError& error) {
    throw UsageError(error.what());
  }
}

// What may differ between the parts of one run: how long it is, what is shown and saved, where it runs.
bool may_change(const std::string& key) {
  for (const char* free : {"steps", "max_minutes", "log_every", "evaluate_every", "evaluate_batches",
                           "checkpoint_every", "keep_checkpoints", "capture", "router_gradients"}) {
    if (key == std::string("train.") + free) return true;
  }
  return key.starts_with("plot.");
}

// The lines of a configuration by the whole names of what they set.
std::map<std::string, std::string> settings_of(const std::string& toml) {
  std::map<std::string, std::string> settings;
  std::istringstream lines(toml);
  std::string section;
  for (std::string line; std::getline(lines, line);) {
    const size_t equals = line.find(" = ");
    if (line.starts_with("[[")) {
      section += "|" + line;  // one of several
    } else if (line.starts_with("[")) {
      section = line.substr(1, line.size() - 2) + ".";
    } else if (equals != line.npos) {
      settings[section + line.substr(0, equals)] = line.substr(equals + 3);
    }
  }
  return settings;
}

// Throws UsageError naming every setting that differs from those the run began with.
void check_same_run(const RunConfig& now, const std::string& path) {
  std::map<std::string, std::string> before = settings_of(to_toml(read_config(path, {}))),
                                     after = settings_of(to_toml(now));
  std::set<std::string> names;
  for (const auto* settings : {&before, &after}) {
    for (const auto& [name, value] : *settings) names.insert(name);
  }
  std::string problems;
  for (const std::string& name : names) {
    if (before[name] == after[name] || may_change(name)) continue;
    const auto shown = [](const std::string& value) { return value.empty() ? "not set" : value; };
    problems += "\n  " + name + " was: " + shown(before[name]) + "   now: " + shown(after[name]);
  }
  check<UsageError>(problems.empty(), path, ": the run began with other settings, and a run keeps them:", problems);
}

// A run that is resumed keeps the configuration it began with.
void write_config(const RunConfig& c, const Options& o) {
  const bool is_new = find_checkpoint(o.out).empty();
  check<ValueError>(o.resume || is_new, o.out,
                    ": a run is here already; go on with it (--resume) or choose another folder (--out)");
  if (!is_new) return check_same_run(c, o.out + "/config.toml");
  make_directories(o.out);
  write_file(o.out + "/config.toml", to_toml(c));
}

void print_result(const TrainingResult& r, const std::string& out, const std::string& unit, bool json) {
  const char* stopped = r.reason == StopReason::interrupted   ? "interrupted"
                        : r.reason == StopReason::out_of_time ? "out of time"
                                                              : "finished";
  const std::vector<HeldOutRecord> held_out = read_metrics(out + "/metrics.jsonl").held_out;
  const double start = held_out.empty() ? 0 : held_out.front().bits_per_byte;
  const double bits = held_out.empty() ? 0 : held_out.back().bits_per_byte;
  const auto step = static_cast<long long>(r.step);
  if (json && held_out.empty()) {
    std::printf("{\"step\": %lld, \"stopped\": \"%s\", \"bits_per_byte\": null}\n", step, stopped);
  } else if (json) {
    std::printf("{\"step\": %lld, \"stopped\": \"%s\", \"bits_per_byte\": %.6f, \"start_bits_per_byte\": %.6f}\n", step,
                stopped, bits, start);
  } else if (held_out.empty()) {
    std::printf("%s at step %lld; nothing was held out; run in %s\n", stopped, step, out.c_str());
  } else {
    std::printf("%s at step %lld, held out %.4f bits per %s (%.4f at the start); run in %s\n", stopped, step, bits,
                unit.c_str(), start, out.c_str());
  }
}

int run(const Options& o) {
  const Environment environment = read_environment();
  const RunConfig c = effective_config(o, environment);
  if (o.print_config) {
    std::fputs(to_toml(c).c_str(), stdout);
    return 0;
  }
  if (o.threads > 0) set_num_threads(o.threads);
  const Device device = device_for(o.device, environment);
  manual_seed(static_cast<uint64_t>(c.seed));
  const auto text = open_text(c, c.text);
  const auto model = build_model(c);
  model->to(device);
  const auto optimizer = build_optimizer(c, *model);
  const auto data = training_batches(c, text);
  TrainerOptions options = trainer_options(c, o, *text);
  write_config(c, o);
  std::optional<ProgressLine> line;
  if (!environment.quiet) {
    line.emplace(vocabulary_of(c).unit);
    options.on_step = [&](const Progress& p) { line->show(p); };
    std::fprintf(stderr, "%lld parameters, %d threads, %s\n", static_cast<long long>(model->num_parameters()),
                 num_threads(), message(device).c_str());
  }
  const CheckFinite checking(environment.check_nan);
  const TrainingResult result = Trainer(*model, *optimizer, data, options).run();
  line.reset();
  print_result(result, o.out, vocabulary_of(c).unit, o.json);
  return result.reason == StopReason::interrupted ? 128 + result.signal : 0;
}

}  // namespace

void add_train(CLI::App& app, int& status) {
  const auto o = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("train",
                         "Train a language model on a text.\n\n"
                         "  mahia train --config train/configs/kjv_demo.toml --out runs/demo\n"
                         "  mahia train --config train/configs/kjv_demo.toml --set train.steps=2000 --set "
                         "train.lr.peak=0.002 --out runs/a\n"
                         "  mahia train --config train/configs/kjv_demo.toml --out runs/demo --resume\n\n"
                         "Writes config.toml, metrics.jsonl and checkpoints/ into the run's folder. SIGINT and SIGTERM "
                         "finish the step, save\n"
                         "and exit with 130 or 143.");
  command->add_option("--config", o->config, "TOML file with the settings; --print-config shows them all");
  command->add_option("--set", o->assignments, "SECTION.KEY=VALUE, stronger than the file; may be repeated")
      ->take_all()
      ->allow_extra_args(false);
  command->add_option("--out", o->out, "folder of the run");
  command->add_flag("--resume", o->resume, "go on from the latest checkpoint in --out, if there is one");
  command->add_option("--record-routing", o->record_routing,
                      "folder that gets what the routers choose, a file per step: for `mahia what-if`");
  command->add_option("--replay-routing", o->replay_routing, "let the routers choose what such a folder says");
  command->add_option("--seed", o->seed, "stronger than the file and MAHIA_SEED")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 53));
  command->add_option("--threads", o->threads, "worker threads, stronger than MAHIA_NUM_THREADS")
      ->check(CLI::Range(1, 4096));
  command->add_option("--device", o->device, "cpu, or cuda in a build that has it");
  command->add_flag("--print-config", o->print_config, "print the complete settings as TOML and stop");
  command->add_flag("--json", o->json, "print the result as JSON");
  command->callback([o, &status, command] {
    if (o->config.empty() && !o->print_config) throw CLI::RequiredError("--config");
    if (o->out.empty() && !o->print_config) throw CLI::RequiredError("--out");
    status = run(*o);
  });
}

}  // namespace mahia::train
