// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "core/parallel.hpp"
#include "train/main_commands.hpp"
#include "train/router_report.hpp"

namespace mahia::train {
namespace {

struct AuditOptions {
  std::string checkpoint, text, device;
  bool json = false;
  int threads = 0;
  int64_t batches = 4;
};

// The model's own z-loss is part of its loss while it trains. As an auxiliary loss of the same weight it is told apart
// from the task.
void tell_z_loss_apart(RunConfig& c) {
  if (c.model.z_loss > 0) c.schedules.aux.z_loss = {.peak = c.model.z_loss};
  c.model.z_loss = 0;
}

int audit(const AuditOptions& o) {
  const Environment environment = read_environment();
  if (o.threads > 0) set_num_threads(o.threads);
  const Device device = device_for(o.device, environment);
  const TrainedModel t = load_trained(o.checkpoint, device, tell_z_loss_apart);
  const auto text = open_text(t.config, o.text.empty() ? t.config.text : o.text);
  std::vector<Batch> batches;
  for (const Batch& batch : held_out_batches(*text, t.config.batch_size, t.config.sequence_length, o.batches))
    batches.push_back(batch.to(device));
  StepState state(t.config.schedules, device);
  state.load_state(read_run_state(find_checkpoint(o.checkpoint)).schedule_state);
  state.advance(std::max<int64_t>(0, t.step - 1));  // the last step that was done
  t.model->train();
  const std::vector<RouterReport> routers = router_report(*t.model, batches, state);
  std::printf("%s", o.json ? (to_json(routers) + "\n").c_str() : to_table(routers).c_str());
  return 0;
}

}  // namespace

void add_audit(CLI::App& app, int& status) {
  const auto o = std::make_shared<AuditOptions>();
  CLI::App* command = app.add_subcommand(
      "audit",
      "Say for each router of a trained model which losses reach it, and how it treats the held-out text.\n\n"
      "  mahia audit --checkpoint runs/demo");
  command->add_option("--checkpoint", o->checkpoint, "a checkpoint, or a run's folder: its latest one")->required();
  command->add_option("--text", o->text, "another text than the one it was trained on");
  command->add_option("--batches", o->batches, "of the held-out part")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  command->add_option("--threads", o->threads, "worker threads")->check(CLI::Range(1, 4096));
  command->add_option("--device", o->device, "cpu, or cuda in a build that has it");
  command->add_flag("--json", o->json, "print the report as JSON");
  command->callback([o, &status] { status = audit(*o); });
}

}  // namespace mahia::train
