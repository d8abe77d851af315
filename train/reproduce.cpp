// SPDX-License-Identifier: Apache-2.0
#include "train/reproduce.hpp"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <numeric>

#include "core/random.hpp"
#include "train/file.hpp"
#include "train/reproduce_report.hpp"

namespace mahia::train {
namespace {

using Clock = std::chrono::steady_clock;

double minutes_since(Clock::time_point start) {
  return std::chrono::duration<double, std::ratio<60>>(Clock::now() - start).count();
}

// The mean loss of the logged steps in (after, until].
double training_loss(const std::string& metrics, int64_t after, int64_t until) {
  double total = 0;
  int64_t count = 0;
  for (const StepRecord& r : read_metrics(metrics).steps) {
    if (r.step <= after || r.step > until) continue;
    total += r.loss;
    ++count;
  }
  return total / static_cast<double>(count);
}

// The evaluations up to the step that training goes on from.
std::vector<Evaluation> evaluations_before(const std::string& folder) {
  const std::string checkpoint = find_checkpoint(folder + "/checkpoints"), path = folder + "/evaluations.json";
  if (checkpoint.empty() || !std::filesystem::exists(path)) return {};
  const int64_t step = read_run_state(checkpoint).step;
  std::vector<Evaluation> evaluations = read_evaluations(read_file(path));
  std::erase_if(evaluations, [&](const Evaluation& e) { return e.step > step; });
  return evaluations;
}

// One seed's model in training, evaluated between steps.
class SeedTraining {
 public:
  SeedTraining(const Recipe& recipe, const ReproduceOptions& options, uint64_t seed)
      : r_(recipe), o_(options), folder_(message(options.out, "/seed-", static_cast<int64_t>(seed))) {
    run_ = {.seed = seed, .evaluations = evaluations_before(folder_)};
    run_.finished = is_finished();
  }

  // Trains to the end or until the minutes are over; `on_evaluation` sees the run as it stands then.
  TrainingResult train(Workload& workload, double minutes, const std::function<void(const SeedRun&)>& on_evaluation) {
    workload.model().to(o_.device);
    AdamW optimizer(workload.model(), {.beta2 = r_.beta2, .weight_decay = r_.weight_decay}, default_rules());
    TrainerOptions options;
    options.steps = r_.steps(r_.epochs);
    options.max_minutes = minutes;
    options.micro_batches = r_.micro_batches;
    options.max_grad_norm = 0;
    const int64_t schedule = r_.steps(std::max(r_.epochs, r_.schedule_epochs));
    options.schedules.lr = {.kind = ScheduleKind::cosine,
                            .peak = r_.lr,
                            .steps = schedule,
                            .warmup = static_cast<int64_t>(r_.warmup * static_cast<double>(schedule))};
    options.out = folder_;
    options.resume = true;
    options.log_every = std::clamp<int64_t>(r_.steps(r_.evaluate_every) / 8, 1, 25);
    options.checkpoint_minutes = 2;
    options.keep_checkpoints = 1;
    options.on_step = [&](const Progress& p) {
      if (is_due(p.step)) {
        evaluate(workload, p.step);
        on_evaluation(run_);
      }
      if (o_.on_step) o_.on_step(run_.seed, p);
    };
    options.is_enough = [&] { return run_.finished; };
    const auto loss = [&](const Batch& batch) { return loss_terms(workload.loss(batch)); };
    return Trainer(workload.model(), loss, optimizer, workload.training(), options).run();
  }

  const SeedRun& run() const { return run_; }

 private:
  bool is_due(int64_t step) const {
    if (step == r_.steps(r_.epochs)) return true;
    const auto epochs = static_cast<int64_t>(r_.epoch(step));
    return epochs % r_.evaluate_every == 0 && epochs > 0 && r_.steps(epochs) == step;
  }

  bool is_finished() const {
    if (run_.evaluations.empty()) return false;
    return run_.evaluations.back().step >= r_.steps(r_.epochs) || (r_.stop_at > 0 && run_.last() >= r_.stop_at);
  }

  void evaluate(Workload& workload, int64_t step) {
    const int64_t before = run_.evaluations.empty() ? 0 : run_.evaluations.back().step;
    run_.evaluations.push_back({step, workload.score(), training_loss(folder_ + "/metrics.jsonl", before, step)});
    run_.finished = is_finished();
    write_file(folder_ + "/evaluations.json", evaluations_json(run_.evaluations));
    if (o_.on_evaluation) o_.on_evaluation(run_.seed, run_.evaluations.back());
  }

  const Recipe& r_;
  const ReproduceOptions& o_;
  std::string folder_;
  SeedRun run_;
};

// A folder belongs to one recipe; the run's length alone may change.
void claim_folder(const Recipe& recipe, const ReproduceOptions& o) {
  Recipe kept = recipe;
  kept.epochs = 0;
  kept.schedule_epochs = std::max(recipe.epochs, recipe.schedule_epochs);
  const std::string path = o.out + "/recipe.json", now = recipe_json(kept);
  if (!std::filesystem::exists(path)) {
    make_directories(o.out);
    return write_file(path, now);
  }
  check<ValueError>(o.resume, o.out,
                    ": a run is here already; go on with it (--resume) or choose another folder (--out)");
  const std::string before = read_file(path);
  check<ValueError>(before == now, path, ": the run began with another recipe, and a run keeps it:\n", before,
                    "\nnow it is:\n", now);
}

void write_results(const Reproduction& result, const std::string& folder) {
  write_file(folder + "/results.json", to_json(result));
  write_file(folder + "/accuracy.svg", to_svg(result));
}

}  // namespace

double SeedRun::mean_of_last(size_t count) const {
  const size_t n = std::min(count, evaluations.size());
  const auto add = [](double total, const Evaluation& e) { return total + e.score.score; };
  return std::accumulate(evaluations.end() - static_cast<std::ptrdiff_t>(n), evaluations.end(), 0.0, add) /
         static_cast<double>(n);
}

Reproduction reproduce(const Recipe& recipe, const ReproduceOptions& o) {
  const Clock::time_point start = Clock::now();
  Reproduction result{.recipe = recipe};
  for (int64_t i = 0; i < o.seeds && result.reason == StopReason::finished; ++i) {
    const uint64_t seed = o.first_seed + static_cast<uint64_t>(i);
    manual_seed(seed);
    const std::unique_ptr<Workload> workload = Workload::make(recipe, seed);
    if (i == 0) {
      claim_folder(recipe, o);
      result.parameters = workload->model().num_parameters();
      result.baselines = workload->baselines();
    }
    SeedTraining training(recipe, o, seed);
    const std::vector<SeedRun> earlier = result.runs;
    const auto show = [&](const SeedRun& run) {
      result.runs = earlier;
      if (!run.evaluations.empty()) result.runs.push_back(run);
      write_results(result, o.out);
    };
    show(training.run());
    if (training.run().finished) continue;
    const double left = o.max_minutes > 0 ? std::max(o.max_minutes - minutes_since(start), 1e-9) : 0;
    const TrainingResult trained = training.train(*workload, left, show);
    result.reason = training.run().finished ? StopReason::finished : trained.reason;
    result.signal = trained.signal;
  }
  return result;
}

}  // namespace mahia::train
