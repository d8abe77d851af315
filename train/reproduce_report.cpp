// SPDX-License-Identifier: Apache-2.0
#include "train/reproduce_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "train/plot.hpp"

namespace mahia::train {
namespace {

using Json = nlohmann::ordered_json;

struct Spread {
  double mean = 0, deviation = 0, least = 0, most = 0;  // deviation: of a sample, 0 for one value
};

Spread spread_of(const std::vector<double>& values) {
  Spread s{.least = values.front(), .most = values.front()};
  const auto n = static_cast<double>(values.size());
  for (const double v : values) {
    s.mean += v / n;
    s.least = std::min(s.least, v);
    s.most = std::max(s.most, v);
  }
  for (const double v : values) s.deviation += (v - s.mean) * (v - s.mean);
  s.deviation = values.size() > 1 ? std::sqrt(s.deviation / (n - 1)) : 0;
  return s;
}

double best_of(const SeedRun& run, bool less) {
  const auto worse = [&](const Evaluation& a, const Evaluation& b) {
    return less ? a.score.score > b.score.score : a.score.score < b.score.score;
  };
  return std::ranges::max_element(run.evaluations, worse)->score.score;
}

// What is said of each run and, as mean and spread, of all: how it is called in JSON and in the table.
struct Measure {
  const char *name, *words;
  bool is_score;
  double (*of)(const SeedRun& run, bool less_is_better);
};

constexpr Measure measures[] = {
    {"best", "best evaluation", true, best_of},
    {"mean_of_last_five", "mean of the last five evaluations", true,
     [](const SeedRun& run, bool) { return run.mean_of_last(5); }},
    {"last", "last evaluation", true, [](const SeedRun& run, bool) { return run.last(); }},
    {"last_exact", "whole examples right, last evaluation", true,
     [](const SeedRun& run, bool) { return run.evaluations.back().score.exact; }},
    {"last_training_loss", "training loss before it", false,
     [](const SeedRun& run, bool) { return run.evaluations.back().training_loss; }},
};

// Whole examples are said to be right only where an example asks for several tokens.
bool applies(const Measure& m, const std::string& task) {
  return m.name != std::string_view("last_exact") || task == "arithmetic" || task == "mqar";
}

Spread spread_over_runs(const Reproduction& r, const Measure& measure) {
  std::vector<double> values;
  for (const SeedRun& run : r.runs) values.push_back(measure.of(run, less_is_better(r.recipe)));
  return spread_of(values);
}

// To six digits; no more are meant.
double rounded(double x) { return std::stod(fmt::format("{:.6g}", x)); }

Json json_of(const Spread& s) {
  return {{"mean", rounded(s.mean)},
          {"deviation", rounded(s.deviation)},
          {"least", rounded(s.least)},
          {"most", rounded(s.most)}};
}

Json json_of(const std::vector<Evaluation>& evaluations) {
  Json list = Json::array();
  for (const Evaluation& e : evaluations) {
    list.push_back(
        {{"step", e.step}, {"score", e.score.score}, {"exact", e.score.exact}, {"training_loss", e.training_loss}});
  }
  return list;
}

Json json_of(const Recipe& r) {
  Json json = {{"task", r.task}};
  for (const RecipeNumber& n : recipe_numbers()) {
    if (applies(n, r.task)) json[n.name] = r.*n.value;
  }
  json["mlp"] = r.mlp;
  json["lr"] = r.lr;
  json["warmup"] = r.warmup;
  json["beta2"] = r.beta2;
  json["weight-decay"] = r.weight_decay;
  json["stop-at"] = r.stop_at;
  return json;
}

const char* score_name(const Recipe& r) { return less_is_better(r) ? "squared error / n" : "accuracy"; }

std::string shown(const Recipe& r, double score) {
  return less_is_better(r) ? fmt::format("{:.4f}", score) : fmt::format("{:.1f} %", 100 * score);
}

std::string sizes_of(const Recipe& r) {
  std::string text;
  for (const RecipeNumber& n : recipe_numbers()) {
    if (n.tasks.empty() || !applies(n, r.task)) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", n.name, r.*n.value);
  }
  return text;
}

}  // namespace

std::string recipe_json(const Recipe& recipe) { return json_of(recipe).dump(2) + "\n"; }

std::string evaluations_json(const std::vector<Evaluation>& evaluations) { return json_of(evaluations).dump() + "\n"; }

std::vector<Evaluation> read_evaluations(const std::string& text) {
  std::vector<Evaluation> evaluations;
  try {
    for (const Json& e : Json::parse(text)) {
      evaluations.push_back({e.at("step"), {e.at("score"), e.at("exact")}, e.at("training_loss")});
    }
  } catch (const Json::exception& error) {
    fail<IoError>("evaluations.json: is no list of evaluations: ", error.what());
  }
  return evaluations;
}

std::string to_json(const Reproduction& r) {
  Json json = {{"recipe", json_of(r.recipe)}, {"parameters", r.parameters}, {"score", score_name(r.recipe)}};
  for (const synthetic::Baseline& b : r.baselines) json["baselines"][b.name] = rounded(b.score);
  const std::optional<double> published = published_accuracy(r.recipe);
  json["published"] = published ? Json(*published) : Json();
  for (const Measure& m : measures) {
    if (!r.runs.empty() && applies(m, r.recipe.task)) json["summary"][m.name] = json_of(spread_over_runs(r, m));
  }
  json["runs"] = Json::array();
  for (const SeedRun& run : r.runs) {
    json["runs"].push_back({{"seed", run.seed}, {"finished", run.finished}, {"evaluations", json_of(run.evaluations)}});
  }
  return json.dump(2) + "\n";
}

std::string to_table(const Reproduction& r) {
  std::string text = fmt::format("{}: {}; {} parameters; {} of {} epochs; {}\n", r.recipe.task, sizes_of(r.recipe),
                                 r.parameters, r.recipe.epochs, std::max(r.recipe.epochs, r.recipe.schedule_epochs),
                                 r.runs.size() == 1 ? "one seed" : fmt::format("{} seeds", r.runs.size()));
  const auto line = [&](const std::string& name, const std::string& value, const std::string& spread = "") {
    text += fmt::format("  {:<40} {:>9}{}\n", name, value, spread);
  };
  text += fmt::format("{}:\n", score_name(r.recipe));
  for (const Measure& m : measures) {
    if (r.runs.empty() || !applies(m, r.recipe.task)) continue;
    const Spread s = spread_over_runs(r, m);
    const auto write = [&](double x) { return m.is_score ? shown(r.recipe, x) : fmt::format("{:.4f}", x); };
    const std::string range = fmt::format("   +- {} ({} .. {})", write(s.deviation), write(s.least), write(s.most));
    line(m.words, write(s.mean), r.runs.size() > 1 ? range : "");
  }
  for (const synthetic::Baseline& b : r.baselines) line(b.name, shown(r.recipe, b.score));
  const std::optional<double> published = published_accuracy(r.recipe);
  line("published", published ? shown(r.recipe, *published) : "-");
  for (const SeedRun& run : r.runs) {
    if (run.finished) continue;
    text +=
        fmt::format("seed {} is not finished: epoch {:.1f}\n", run.seed, r.recipe.epoch(run.evaluations.back().step));
  }
  return text;
}

std::string to_svg(const Reproduction& r) {
  const bool less = less_is_better(r.recipe);
  CurveChart chart{.title = r.recipe.task + ": " + sizes_of(r.recipe),
                   .x_title = "epoch",
                   .y_title = less ? "squared error / n" : "test accuracy, %",
                   .y_high = less ? 1.2 : 100,
                   .curves = {},
                   .references = {}};
  const double unit = less ? 1 : 100;
  for (const SeedRun& run : r.runs) {
    std::vector<StepValue> values;
    for (const Evaluation& e : run.evaluations) values.push_back({r.recipe.epoch(e.step), unit * e.score.score});
    chart.curves.emplace_back(fmt::format("seed {}", run.seed), std::move(values));
  }
  for (const synthetic::Baseline& b : r.baselines) chart.references.push_back({b.name, unit * b.score});
  return curves_svg(chart);
}

}  // namespace mahia::train
