// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/parallel.hpp"
#include "train/generate.hpp"
#include "train/main_commands.hpp"
#include "train/precision.hpp"
#include "train/trainer.hpp"

namespace mahia::train {

std::unique_ptr<nn::models::HyenaMoeLM> build_model(const RunConfig& c) {
  auto model = std::make_unique<nn::models::HyenaMoeLM>(c.model);
  if (c.precision == "bf16") to_bf16(*model);
  return model;
}

TrainedModel load_trained(const std::string& path, Device device, const std::function<void(RunConfig&)>& change) {
  check<IoError>(!path.ends_with(".pt") && !path.ends_with(".pth"), path,
                 ": files of torch.save can run code and are not read. Convert it once in Python:\n"
                 "  import torch, safetensors.torch\n"
                 "  safetensors.torch.save_file(torch.load(\"",
                 path, "\", weights_only=True), \"model.safetensors\")");
  const std::string checkpoint = find_checkpoint(path);
  check<IoError>(!checkpoint.empty(), path, ": no checkpoint here; `mahia train --out ", path, "` writes one");
  const RunState state = read_run_state(checkpoint);
  const auto config = state.notes.find("config");
  check<IoError>(config != state.notes.end(), checkpoint, ": this checkpoint does not say how its model was built");
  TrainedModel trained{parse_config(config->second, checkpoint), nullptr, state.step};
  if (change) change(trained.config);
  trained.model = build_model(trained.config);
  load_weights(checkpoint, *trained.model);
  trained.model->to(device);
  trained.model->eval();
  return trained;
}

namespace {

struct EvalOptions {
  std::string checkpoint, text, device;
  bool json = false;
  int threads = 0;
  int64_t batches = -1;
};

int evaluate(const EvalOptions& o) {
  const Environment environment = read_environment();
  if (o.threads > 0) set_num_threads(o.threads);
  TrainedModel t = load_trained(o.checkpoint, device_for(o.device, environment));
  const auto text = open_text(t.config, o.text.empty() ? t.config.text : o.text);
  const std::string& unit = vocabulary_of(t.config).unit;
  TrainerOptions options;
  options.held_out = held_out_batches(*text, t.config.batch_size, t.config.sequence_length, o.batches);
  AdamW unused(*t.model);
  const HeldOutRecord r = Trainer(*t.model, unused, nullptr, options).evaluate();
  const auto step = static_cast<long long>(t.step), targets = static_cast<long long>(r.targets);
  if (o.json) {
    std::printf("{\"step\": %lld, \"bits_per_byte\": %.6f, \"loss\": %.6f, \"targets\": %lld}\n", step, r.bits_per_byte,
                r.loss, targets);
  } else {
    std::printf("step %lld: %.4f bits per %s over %lld held-out %ss\n", step, r.bits_per_byte, unit.c_str(), targets,
                unit.c_str());
  }
  return 0;
}

constexpr int64_t most = 1'000'000'000;

struct GenerateCommand {
  std::string checkpoint, prompt, stop, device;
  GenerateOptions options;
  int threads = 0;
  bool json = false;
};

// What is wrong with values of the command line.
template <class Fn>
void as_usage(Fn&& fn) {
  try {
    fn();
  } catch (const ValueError& error) {
    throw UsageError(error.what());
  }
}

int generate_text(GenerateCommand& o, const Environment& environment) {
  check<UsageError>(!o.prompt.empty(), "--prompt is empty: the model needs something to go on from");
  as_usage([&] { validate(o.options.sampling); });
  if (o.threads > 0) set_num_threads(o.threads);
  const TrainedModel t = load_trained(o.checkpoint, device_for(o.device, environment));
  const Vocabulary& vocabulary = vocabulary_of(t.config);
  as_usage([&] {
    vocabulary.encode(o.prompt);
    o.options.stop = vocabulary.encode(o.stop);
  });
  if (o.json) {
    const nlohmann::ordered_json json = {{"prompt", o.prompt},
                                         {"text", generate(*t.model, o.prompt, vocabulary, o.options)}};
    std::printf("%s\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
    return 0;
  }
  std::fputs(o.prompt.c_str(), stdout);
  generate(*t.model, o.prompt, vocabulary, o.options, [](char c) {
    std::fputc(c, stdout);
    std::fflush(stdout);
  });
  std::fputc('\n', stdout);
  return 0;
}

}  // namespace

void add_eval(CLI::App& app, int& status) {
  const auto o = std::make_shared<EvalOptions>();
  CLI::App* command = app.add_subcommand("eval",
                                         "Measure a trained model on the held-out part of its text.\n\n"
                                         "  mahia eval --checkpoint runs/demo --json");
  command->add_option("--checkpoint", o->checkpoint, "a checkpoint, or a run's folder: its latest one")->required();
  command->add_option("--text", o->text, "another text than the one it was trained on");
  command->add_option("--batches", o->batches, "only so many batches; default: the whole held-out part");
  command->add_option("--threads", o->threads, "worker threads")->check(CLI::Range(1, 4096));
  command->add_option("--device", o->device, "cpu, or cuda in a build that has it");
  command->add_flag("--json", o->json, "print the result as JSON");
  command->callback([o, &status] { status = evaluate(*o); });
}

void add_generate(CLI::App& app, int& status) {
  const auto o = std::make_shared<GenerateCommand>();
  CLI::App* command = app.add_subcommand("generate",
                                         "Let a trained model continue a text, byte by byte, or base by base.\n\n"
                                         "  mahia generate --checkpoint runs/demo --prompt 'And God said'\n"
                                         "  mahia generate --checkpoint runs/demo --prompt 'And' --temperature 0");
  command->add_option("--checkpoint", o->checkpoint, "a checkpoint, or a run's folder: its latest one")->required();
  command->add_option("--prompt", o->prompt, "the text to continue")->required();
  command->add_option("--tokens", o->options.tokens, "bytes or bases to add")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{0}, most));
  SamplingOptions& sampling = o->options.sampling;
  command->add_option("--temperature", sampling.temperature, "0: always the most likely")->capture_default_str();
  command->add_option("--top-k", sampling.top_k, "draw from the k most likely; 0: from all")->capture_default_str();
  command->add_option("--top-p", sampling.top_p, "draw from the likeliest that together have this probability")
      ->capture_default_str();
  command
      ->add_option("--repetition-penalty", sampling.repetition_penalty, "above 1: what stands there already gets rarer")
      ->capture_default_str();
  command->add_option("--stop", o->stop, "end before any of these characters");
  const CLI::Option* seed = command->add_option("--seed", o->options.seed, "same seed, same text")
                                ->capture_default_str()
                                ->check(CLI::Range(int64_t{0}, most));
  command->add_option("--threads", o->threads, "worker threads")->check(CLI::Range(1, 4096));
  command->add_option("--device", o->device, "cpu, or cuda in a build that has it");
  command->add_flag("--json", o->json, "print prompt and text as JSON");
  command->callback([o, seed, &status] {
    const Environment environment = read_environment();
    if (seed->count() == 0 && environment.seed >= 0) o->options.seed = static_cast<uint64_t>(environment.seed);
    status = generate_text(*o, environment);
  });
}

}  // namespace mahia::train
