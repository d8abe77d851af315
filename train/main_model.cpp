// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/parallel.hpp"
#include "train/data/text.hpp"
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

TrainedModel load_trained(const std::string& path) {
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
  trained.model = build_model(trained.config);
  load_weights(checkpoint, *trained.model);
  trained.model->eval();
  return trained;
}

namespace {

struct EvalOptions {
  std::string checkpoint, text;
  bool json = false;
  int threads = 0;
  int64_t batches = -1;
};

int evaluate(const EvalOptions& o) {
  read_environment();
  if (o.threads > 0) set_num_threads(o.threads);
  TrainedModel t = load_trained(o.checkpoint);
  const ByteText text(o.text.empty() ? t.config.text : o.text, t.config.held_out);
  TrainerOptions options;
  options.held_out = held_out_batches(text, t.config.batch_size, t.config.sequence_length, o.batches);
  AdamW unused(*t.model);
  const HeldOutRecord r = Trainer(*t.model, unused, nullptr, options).evaluate();
  const auto step = static_cast<long long>(t.step), bytes = static_cast<long long>(r.targets);
  if (o.json) {
    std::printf("{\"step\": %lld, \"bits_per_byte\": %.6f, \"loss\": %.6f, \"targets\": %lld}\n", step, r.bits_per_byte,
                r.loss, bytes);
  } else {
    std::printf("step %lld: %.4f bits per byte over %lld held-out bytes\n", step, r.bits_per_byte, bytes);
  }
  return 0;
}

constexpr int64_t most = 1'000'000'000;

struct GenerateCommand {
  std::string checkpoint, prompt, stop;
  GenerateOptions options;
  int threads = 0;
  bool json = false;
};

int generate_text(GenerateCommand& o) {
  check<UsageError>(!o.prompt.empty(), "--prompt is empty: the model needs a byte to go on from");
  try {
    validate(o.options.sampling);
  } catch (const ValueError& error) {
    throw UsageError(error.what());
  }
  for (const char c : o.stop) o.options.stop.push_back(static_cast<unsigned char>(c));
  if (o.threads > 0) set_num_threads(o.threads);
  const TrainedModel t = load_trained(o.checkpoint);
  if (o.json) {
    const nlohmann::ordered_json json = {{"prompt", o.prompt}, {"text", generate(*t.model, o.prompt, o.options)}};
    std::printf("%s\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
    return 0;
  }
  std::fputs(o.prompt.c_str(), stdout);
  generate(*t.model, o.prompt, o.options, [](char c) {
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
  command->add_flag("--json", o->json, "print the result as JSON");
  command->callback([o, &status] { status = evaluate(*o); });
}

void add_generate(CLI::App& app, int& status) {
  const auto o = std::make_shared<GenerateCommand>();
  CLI::App* command = app.add_subcommand("generate",
                                         "Let a trained model continue a text, byte by byte.\n\n"
                                         "  mahia generate --checkpoint runs/demo --prompt 'And God said'\n"
                                         "  mahia generate --checkpoint runs/demo --prompt 'And' --temperature 0");
  command->add_option("--checkpoint", o->checkpoint, "a checkpoint, or a run's folder: its latest one")->required();
  command->add_option("--prompt", o->prompt, "the text to continue")->required();
  command->add_option("--tokens", o->options.tokens, "bytes to add")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{0}, most));
  SamplingOptions& sampling = o->options.sampling;
  command->add_option("--temperature", sampling.temperature, "0: always the most likely byte")->capture_default_str();
  command->add_option("--top-k", sampling.top_k, "draw from the k most likely bytes; 0: from all")
      ->capture_default_str();
  command->add_option("--top-p", sampling.top_p, "draw from the likeliest bytes that together have this probability")
      ->capture_default_str();
  command
      ->add_option("--repetition-penalty", sampling.repetition_penalty,
                   "above 1: bytes that stand there already get rarer")
      ->capture_default_str();
  command->add_option("--stop", o->stop, "end before any of these bytes");
  const CLI::Option* seed = command->add_option("--seed", o->options.seed, "same seed, same text")
                                ->capture_default_str()
                                ->check(CLI::Range(int64_t{0}, most));
  command->add_option("--threads", o->threads, "worker threads")->check(CLI::Range(1, 4096));
  command->add_flag("--json", o->json, "print prompt and text as JSON");
  command->callback([o, seed, &status] {
    const Environment environment = read_environment();
    if (seed->count() == 0 && environment.seed >= 0) o->options.seed = static_cast<uint64_t>(environment.seed);
    status = generate_text(*o);
  });
}

}  // namespace mahia::train
