// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "core/parallel.hpp"
#include "core/runtime.hpp"
#include "train/main_commands.hpp"
#include "train/reproduce_report.hpp"

namespace mahia::train {
namespace {

struct Options {
  std::string task, out, device;
  int tier = 1, threads = 0;
  int64_t seeds = 3, seed = -1;
  double max_minutes = 0, lr = 0;
  std::vector<int64_t> numbers = std::vector<int64_t>(recipe_numbers().size(), 0);  // 0: the tier's
  bool resume = false, json = false;
};

Recipe recipe_for(const Options& o) {
  const std::vector<std::string> known = reproduce_tasks();
  check<UsageError>(std::ranges::find(known, o.task) != known.end(), "there is no task `", o.task, "`; did you mean `",
                    nearest(o.task, known), "`?");
  Recipe recipe = recipe_of(o.task, o.tier);
  for (size_t i = 0; i < o.numbers.size(); ++i) {
    const RecipeNumber& number = recipe_numbers()[i];
    if (o.numbers[i] == 0) continue;
    check<UsageError>(applies(number, o.task), "--", number.name, ": ", o.task, " has none");
    recipe.*number.value = o.numbers[i];
  }
  if (o.lr > 0) recipe.lr = o.lr;
  try {
    validate(recipe);
  } catch (const ValueError& error) {
    throw UsageError(error.what());
  }
  return recipe;
}

// A line per evaluation and, in long silences, one that says how fast it goes.
class Report {
 public:
  explicit Report(const Recipe& recipe) : recipe_(recipe) {}

  void evaluated(uint64_t seed, const Evaluation& e) {
    std::fprintf(stderr, "seed %llu  epoch %5.1f/%lld  %s %.4f  training loss %.4f\n",
                 static_cast<unsigned long long>(seed), recipe_.epoch(e.step), static_cast<long long>(recipe_.epochs),
                 less_is_better(recipe_) ? "error" : "accuracy", e.score.score, e.training_loss);
    said_ = true;
  }

  void stepped(uint64_t seed, const Progress& p) {
    constexpr double silence = 20;  // seconds
    if (said_ || p.seconds < shown_) {
      shown_ = p.seconds;
      step_ = p.step;
      said_ = false;
    }
    if (p.seconds - shown_ < silence) return;
    std::fprintf(stderr, "seed %llu  step %lld/%lld  loss %.4f  %.1f ms a step\n",
                 static_cast<unsigned long long>(seed), static_cast<long long>(p.step), static_cast<long long>(p.steps),
                 p.loss, 1000 * (p.seconds - shown_) / static_cast<double>(p.step - step_));
    shown_ = p.seconds;
    step_ = p.step;
  }

 private:
  const Recipe& recipe_;
  bool said_ = true;
  double shown_ = 0;
  int64_t step_ = 0;
};

int run(const Options& o) {
  const Environment environment = read_environment();
  const Recipe recipe = recipe_for(o);
  if (o.threads > 0) set_num_threads(o.threads);
  const int64_t first_seed = o.seed >= 0 ? o.seed : std::max<int64_t>(environment.seed, 0);
  ReproduceOptions options{.out = o.out.empty() ? fmt::format("runs/{}-tier-{}", o.task, o.tier) : o.out,
                           .first_seed = static_cast<uint64_t>(first_seed),
                           .seeds = o.seeds,
                           .resume = o.resume,
                           .max_minutes = o.max_minutes,
                           .device = device_for(o.device, environment)};
  Report report(recipe);
  if (!environment.quiet) {
    options.on_step = [&](uint64_t seed, const Progress& p) { report.stepped(seed, p); };
    options.on_evaluation = [&](uint64_t seed, const Evaluation& e) { report.evaluated(seed, e); };
  }
  const Reproduction result = reproduce(recipe, options);
  std::fputs((o.json ? to_json(result) : to_table(result)).c_str(), stdout);
  if (result.reason == StopReason::out_of_time) {
    std::fprintf(stderr, "the %g minutes are over; --resume goes on\n", o.max_minutes);
  }
  return result.reason == StopReason::interrupted ? 128 + result.signal : 0;
}

void add_options(CLI::App* command, Options& o) {
  command->add_option("task", o.task, fmt::format("one of {}", fmt::join(reproduce_tasks(), ", ")))->required();
  command->add_option("--tier", o.tier, "1: minutes on two cores, 2: up to an hour, 3: on a GPU")
      ->capture_default_str()
      ->check(CLI::Range(1, 3));
  command->add_option("--seeds", o.seeds, "how many runs")->capture_default_str()->check(CLI::Range(1, 1000));
  command->add_option("--seed", o.seed, "of the first run; stronger than MAHIA_SEED; default 0")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 53));
  command->add_option("--out", o.out, "folder of results.json, accuracy.svg and the runs; default runs/TASK-tier-N");
  command->add_flag("--resume", o.resume, "go on with the runs in --out, if there are any");
  command->add_option("--max-minutes", o.max_minutes, "save and stop after so many minutes; --resume goes on")
      ->check(CLI::Range(0.0, 1e6));
  command->add_option("--device", o.device, "cpu, or cuda in a build that has it");
  command->add_option("--threads", o.threads, "worker threads, stronger than MAHIA_NUM_THREADS")
      ->check(CLI::Range(1, 4096));
  command->add_flag("--json", o.json, "print results.json in place of the table");
  for (size_t i = 0; i < o.numbers.size(); ++i) {
    const RecipeNumber& number = recipe_numbers()[i];
    const std::string tasks = number.tasks.empty() ? "" : fmt::format(" ({})", fmt::join(number.tasks, ", "));
    command->add_option(fmt::format("--{}", number.name), o.numbers[i], number.what + tasks)
        ->check(CLI::Range(number.low, number.high));
  }
  command->add_option("--lr", o.lr, "peak of the learning rate")->check(CLI::Range(1e-9, 10.0));
}

}  // namespace

void add_reproduce(CLI::App& app, int& status) {
  const auto o = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("reproduce",
                         "Learn a synthetic task on which Hyena was published, from several seeds.\n\n"
                         "  mahia reproduce associative-recall\n"
                         "  mahia reproduce induction-head --seeds 1 --out runs/induction\n"
                         "  mahia reproduce associative-recall --tier 3 --vocab 30 --length 2048 --device cuda "
                         "--max-minutes 9 --resume\n\n"
                         "Prints mean and spread beside chance, baselines and the published number. What a tier does "
                         "not fix can be set.");
  add_options(command, *o);
  command->callback([o, &status] { status = run(*o); });
}

}  // namespace mahia::train
