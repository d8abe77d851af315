// SPDX-License-Identifier: Apache-2.0
#include "train/plot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "train/svg.hpp"

namespace mahia::train {
namespace {

constexpr const char *ink = "#2e3440", *grid = "#e5e9f0", *faint = "#7b8494";
constexpr const char *train_colour = "#3b6ea5", *held_out_colour = "#d1603d";

// Maps data to pixels inside a frame.
struct Frame {
  double left, top, width, height;
  double x_low, x_high, y_low, y_high;
  double x(double value) const { return left + (value - x_low) / (x_high - x_low) * width; }
  double y(double value) const { return top + height - (value - y_low) / (y_high - y_low) * height; }
};

// With log_y, y are decimal logarithms.
void draw_axes(Svg& svg, const Frame& f, const std::string& x_title, const std::string& y_title, bool log_y = false) {
  for (const double v : round_ticks(f.y_low, f.y_high, 6)) {
    svg.line(f.left, f.y(v), f.left + f.width, f.y(v), grid);
    svg.text(f.left - 8, f.y(v) + 4, log_y ? fmt::format("{:.2g}", std::pow(10, v)) : tick_label(v),
             {.size = 12, .colour = faint, .anchor = Svg::Anchor::end});
  }
  for (const double v : round_ticks(f.x_low, f.x_high, 8)) {
    svg.line(f.x(v), f.top + f.height, f.x(v), f.top + f.height + 5, faint);
    svg.text(f.x(v), f.top + f.height + 20, tick_label(v),
             {.size = 12, .colour = faint, .anchor = Svg::Anchor::middle});
  }
  svg.line(f.left, f.top + f.height, f.left + f.width, f.top + f.height, faint);
  svg.text(f.left + f.width / 2, f.top + f.height + 42, x_title, {.colour = ink, .anchor = Svg::Anchor::middle});
  svg.text(f.left - 48, f.top + f.height / 2, y_title, {.colour = ink, .anchor = Svg::Anchor::middle, .angle = -90});
}

std::vector<Svg::Point> pixels(const Frame& f, const std::vector<StepValue>& values) {
  std::vector<Svg::Point> points;
  for (const StepValue& v : values) points.push_back({f.x(v.step), f.y(std::clamp(v.value, f.y_low, f.y_high))});
  return points;
}

// The mean over a window of 2 % of the points, at least five.
std::vector<StepValue> running_mean(const std::vector<StepValue>& values) {
  const auto window = std::max<size_t>(5, values.size() / 50);
  std::vector<StepValue> out;
  double total = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    total += values[i].value;
    if (i >= window) total -= values[i - window].value;
    out.push_back({values[i].step, total / static_cast<double>(std::min(i + 1, window))});
  }
  return out;
}

Frame loss_frame(const LossChart& chart) {
  Frame f{
      .left = 78, .top = 56, .width = 790, .height = 400, .x_low = 0, .x_high = 1, .y_low = 1e300, .y_high = -1e300};
  for (const auto* series : {&chart.train, &chart.held_out}) {
    for (const StepValue& v : *series) {
      f.x_high = std::max(f.x_high, v.step);
      f.y_low = std::min(f.y_low, v.value);
      f.y_high = std::max(f.y_high, v.value);
    }
  }
  for (const Reference& r : chart.references) f.y_low = std::min(f.y_low, r.value);
  if (f.y_low > f.y_high) f.y_low = 0, f.y_high = 1;
  const double margin = std::max(0.06 * (f.y_high - f.y_low), 1e-3);
  f.y_low = std::max(0.0, f.y_low - margin);
  f.y_high += margin;
  return f;
}

// Dashed lines with their names; the names go above the higher and below the lower lines, so that close ones stay
// apart.
void draw_references(Svg& svg, const Frame& f, std::vector<Reference> references) {
  std::sort(references.begin(), references.end(), [](const auto& a, const auto& b) { return a.value > b.value; });
  for (size_t i = 0; i < references.size(); ++i) {
    const double y = f.y(references[i].value);
    const bool above = 2 * i < references.size();
    svg.line(f.left, y, f.left + f.width, y, faint, 1.2, "6 4");
    svg.text(f.left + f.width - 4, above ? y - 6 : y + 15,
             fmt::format("{} {:.3f}", references[i].name, references[i].value),
             {.size = 11.5, .colour = faint, .anchor = Svg::Anchor::end});
  }
}

// Blue below the fair share, white at it, red above: `ratio` is share * E.
std::string load_colour(double ratio) {
  const double t = std::clamp(std::log2(std::max(ratio, 1.0 / 16)) / 2, -1.0, 1.0);  // a factor of four saturates
  const auto mix = [&](int end) { return static_cast<int>(std::lround(255 + (end - 255) * std::abs(t))); };
  return t < 0 ? fmt::format("#{:02x}{:02x}{:02x}", mix(33), mix(90), mix(160))
               : fmt::format("#{:02x}{:02x}{:02x}", mix(178), mix(48), mix(32));
}

void draw_load_scale(Svg& svg, double left, double top) {
  constexpr int cells = 64;
  constexpr double width = 3;
  for (int i = 0; i < cells; ++i) {
    const double ratio = std::exp2(-2 + 4 * (i + 0.5) / cells);
    svg.rectangle(left + i * width, top, width + 0.5, 12, load_colour(ratio));
  }
  const char* labels[] = {"1/4", "1/2", "fair share", "x2", "x4"};
  for (int i = 0; i < 5; ++i) {
    svg.text(left + i * cells * width / 4, top + 26, labels[i],
             {.size = 11, .colour = faint, .anchor = Svg::Anchor::middle});
  }
}

void draw_layer(Svg& svg, const LoadChart& chart, size_t layer, double left, double top, double width, double row) {
  const auto& share = chart.share[layer];
  const size_t experts = share.empty() ? 0 : share[0].size();
  const double cell = width / static_cast<double>(std::max<size_t>(1, share.size()));
  svg.text(left, top - 8, fmt::format("layer {}", layer), {.colour = ink, .bold = true});
  for (size_t e = 0; e < experts; ++e) {
    const double y = top + static_cast<double>(e) * row;
    svg.text(left - 8, y + row / 2 + 4, std::to_string(e), {.size = 11, .colour = faint, .anchor = Svg::Anchor::end});
    for (size_t s = 0; s < share.size(); ++s) {
      svg.rectangle(left + static_cast<double>(s) * cell, y, cell + 0.4, row - 1,
                    load_colour(share[s][e] * static_cast<double>(experts)));
    }
  }
}

// Where a value of a curve stands on the y axis.
double shown(const CurveChart& chart, double value) {
  return chart.log_y ? std::log10(std::max(value, 1e-300)) : value;
}

Frame curve_frame(const CurveChart& chart) {
  Frame f{
      .left = 78, .top = 56, .width = 790, .height = 400, .x_low = 0, .x_high = 1, .y_low = 0, .y_high = chart.y_high};
  double least = 1e300, most = 0;  // positive ones, for decades
  for (const auto& [name, values] : chart.curves) {
    for (const StepValue& v : values) {
      f.x_high = std::max(f.x_high, v.step);
      most = std::max(most, v.value);
      if (v.value > 0) least = std::min(least, v.value);
    }
  }
  for (const Reference& r : chart.references) most = std::max(most, r.value);
  if (chart.log_y) {
    f.y_low = most > 0 ? std::floor(std::log10(least)) : -1;
    f.y_high = std::max(most > 0 ? std::ceil(std::log10(most)) : 0, f.y_low + 1);
  } else if (f.y_high == 0) {
    f.y_high = most > 0 ? 1.05 * most : 1;
  }
  return f;
}

}  // namespace

std::string loss_svg(const LossChart& chart) {
  Svg svg(920, 530);
  const Frame f = loss_frame(chart);
  svg.text(f.left, 30, chart.title, {.size = 17, .colour = ink, .bold = true});
  draw_axes(svg, f, "optimizer step", chart.unit);
  draw_references(svg, f, chart.references);
  svg.polyline(pixels(f, chart.train), train_colour, 1, 0.25);
  svg.polyline(pixels(f, running_mean(chart.train)), train_colour, 2);
  svg.polyline(pixels(f, chart.held_out), held_out_colour, 1.5);
  for (const Svg::Point& p : pixels(f, chart.held_out)) svg.dot(p, 4, held_out_colour);
  const double legend = f.left + f.width - 210;
  svg.line(legend, f.top + 14, legend + 26, f.top + 14, train_colour, 2.5);
  svg.text(legend + 34, f.top + 18, "training, running mean", {.colour = ink});
  svg.line(legend, f.top + 36, legend + 26, f.top + 36, held_out_colour, 1.5);
  svg.dot({legend + 13, f.top + 36}, 4, held_out_colour);
  const std::string last = chart.held_out.empty() ? "" : fmt::format(", last {:.3f}", chart.held_out.back().value);
  svg.text(legend + 34, f.top + 40, "held out" + last, {.colour = ink});
  return svg.str();
}

std::string curves_svg(const CurveChart& chart) {
  constexpr const char* colours[] = {"#3b6ea5", "#d1603d", "#4c9a6a", "#8b5fa8", "#b8860b", "#5f6b7a"};
  constexpr size_t most_dots = 40;
  Svg svg(920, 530);
  const Frame f = curve_frame(chart);
  svg.text(f.left, 30, chart.title, {.size = 17, .colour = ink, .bold = true});
  draw_axes(svg, f, chart.x_title, chart.y_title, chart.log_y);
  draw_references(svg, f, chart.references);
  double legend = f.top + (chart.curves.size() > 10 ? 0.05 : 0.45) * f.height;
  for (size_t i = 0; i < chart.curves.size(); ++i, legend += 22) {
    const char* colour = colours[i % std::size(colours)];
    std::vector<StepValue> values = chart.curves[i].second;
    for (StepValue& v : values) v.value = shown(chart, v.value);
    const std::vector<Svg::Point> points = pixels(f, values);
    svg.polyline(points, colour, 1.5);
    if (points.size() <= most_dots) {
      for (const Svg::Point& p : points) svg.dot(p, 3, colour);
    }
    svg.line(f.left + f.width - 120, legend, f.left + f.width - 94, legend, colour, 2.5);
    svg.text(f.left + f.width - 86, legend + 4, chart.curves[i].first, {.colour = ink});
  }
  return svg.str();
}

std::string load_svg(const LoadChart& chart) {
  constexpr double left = 60, width = 800, row = 16, gap = 44, head = 92;
  const size_t experts = chart.share.empty() || chart.share[0].empty() ? 0 : chart.share[0][0].size();
  const double block = static_cast<double>(experts) * row + gap;
  Svg svg(900, head + block * static_cast<double>(chart.share.size()) + 40);
  svg.text(left, 30, chart.title, {.size = 17, .colour = ink, .bold = true});
  svg.text(left, 50, "share of routed tokens per expert (rows), against the optimizer step",
           {.size = 12, .colour = faint});
  draw_load_scale(svg, left + width - 200, 24);
  double top = head;
  for (size_t layer = 0; layer < chart.share.size(); ++layer, top += block) {
    draw_layer(svg, chart, layer, left, top, width, row);
  }
  if (chart.steps.empty()) return svg.str();
  const Frame f{.left = left,
                .top = 0,
                .width = width,
                .height = 1,
                .x_low = chart.steps.front(),
                .x_high = std::max(chart.steps.back(), chart.steps.front() + 1),
                .y_low = 0,
                .y_high = 1};
  for (const double v : round_ticks(f.x_low, f.x_high, 8)) {
    svg.text(f.x(v), top - gap + 18, tick_label(v), {.size = 12, .colour = faint, .anchor = Svg::Anchor::middle});
  }
  svg.text(left + width / 2, top - gap + 40, "optimizer step", {.colour = ink, .anchor = Svg::Anchor::middle});
  return svg.str();
}

}  // namespace mahia::train
