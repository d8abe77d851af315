// SPDX-License-Identifier: Apache-2.0
#include "train/run_charts.hpp"

#include <algorithm>
#include <numbers>
#include <optional>
#include <sstream>

#include "core/error.hpp"
#include "train/plot.hpp"

namespace mahia::train {
namespace {

std::vector<Reference> references_of(const RunConfig& c) {
  std::vector<Reference> references;
  std::istringstream names(c.reference_names);
  for (const double value : c.reference_values) {
    std::string name;
    std::getline(names, name, ',');
    references.push_back({name, value});
  }
  return references;
}

double step_of(const auto& record) { return static_cast<double>(record.step); }

std::string loss_chart(const RunConfig& config, const Metrics& metrics) {
  LossChart chart{.title = config.plot_title,
                  .unit = "bits per " + vocabulary_of(config).unit,
                  .train = {},
                  .held_out = {},
                  .references = references_of(config)};
  for (const StepRecord& r : metrics.steps) chart.train.push_back({step_of(r), r.loss / std::numbers::ln2});
  for (const HeldOutRecord& r : metrics.held_out) chart.held_out.push_back({step_of(r), r.bits_per_byte});
  return loss_svg(chart);
}

std::string load_chart(const RunConfig& config, const Metrics& metrics) {
  LoadChart chart{.title = config.plot_title + ": expert load", .steps = {}, .share = {}};
  for (const StepRecord& r : metrics.steps) {
    if (r.expert_load.empty()) continue;
    chart.steps.push_back(step_of(r));
    chart.share.resize(r.expert_load.size());
    for (size_t layer = 0; layer < r.expert_load.size(); ++layer) chart.share[layer].push_back(r.expert_load[layer]);
  }
  return load_svg(chart);
}

// A curve for each layer of what `value_of` (LayerRecord -> optional<double>) finds; no curve where it finds nothing.
CurveChart layer_chart(const RunConfig& config, const Metrics& metrics, const std::string& what, const auto& value_of) {
  CurveChart chart{.title = config.plot_title + ": " + what, .x_title = "optimizer step", .y_title = what};
  for (const StepRecord& r : metrics.steps) {
    for (size_t l = 0; l < r.layers.size(); ++l) {
      const std::optional<double> value = value_of(r.layers[l]);
      if (!value) continue;
      while (chart.curves.size() <= l) chart.curves.push_back({message("layer ", chart.curves.size()), {}});
      chart.curves[l].second.push_back({step_of(r), *value});
    }
  }
  return chart;
}

// What the closed loops over MaxVio aim at and what they have smoothed.
void add_loops(CurveChart& chart, const RunConfig& config, const Metrics& metrics) {
  for (size_t i = 0; i < nn::aux_loss_names.size(); ++i) {
    const Schedule& s = config.schedules.aux[static_cast<nn::AuxLoss>(i)];
    if (!is_closed_loop(s.kind) || s.feedback.metric != nn::Imbalance::max_violation) continue;
    chart.references.push_back({std::string("target of ") + nn::aux_loss_names[i], s.feedback.target});
    auto& [name, curve] =
        chart.curves.emplace_back(std::string("smoothed for ") + nn::aux_loss_names[i], std::vector<StepValue>());
    for (const StepRecord& r : metrics.steps) {
      const auto aux = std::ranges::find(r.aux, nn::aux_loss_names[i], &AuxRecord::name);
      if (aux != r.aux.end() && aux->measured) curve.push_back({step_of(r), *aux->measured});
    }
  }
}

CurveChart coefficient_chart(const RunConfig& config, const Metrics& metrics) {
  CurveChart chart{.title = config.plot_title + ": coefficients of the auxiliary losses",
                   .x_title = "optimizer step",
                   .y_title = "coefficient",
                   .log_y = true};
  for (const StepRecord& r : metrics.steps) {
    for (const AuxRecord& aux : r.aux) {
      auto curve = std::ranges::find(chart.curves, aux.name, [](const auto& c) { return c.first; });
      if (curve == chart.curves.end()) curve = chart.curves.insert(curve, {aux.name, {}});
      curve->second.push_back({step_of(r), aux.coefficient});
    }
  }
  return chart;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> run_charts(const RunConfig& config, const Metrics& metrics) {
  std::vector<std::pair<std::string, std::string>> charts = {{"loss.svg", loss_chart(config, metrics)},
                                                             {"expert_load.svg", load_chart(config, metrics)}};
  const auto add = [&](const char* name, CurveChart chart) {
    if (chart.curves.empty()) return;
    chart.y_high = 0;  // as high as the curves
    charts.emplace_back(name, curves_svg(chart));
  };
  CurveChart violation = layer_chart(config, metrics, "MaxVio",
                                     [](const LayerRecord& r) -> std::optional<double> { return r.max_violation; });
  if (!violation.curves.empty()) add_loops(violation, config, metrics);
  add("max_violation.svg", violation);
  add("drop_rate.svg", layer_chart(config, metrics, "drop rate", [](const LayerRecord& r) { return r.drop_rate; }));
  add("coefficients.svg", coefficient_chart(config, metrics));
  add("aux_to_task.svg", layer_chart(config, metrics, "auxiliary over task gradient at the router",
                                     [](const LayerRecord& r) { return r.aux_to_task; }));
  return charts;
}

}  // namespace mahia::train
